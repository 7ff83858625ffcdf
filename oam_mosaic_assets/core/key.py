"""Which names an object may have in every store."""


def check_key(key: str) -> str:
    """Return an object's key, if it names the same thing in every store.

    Raises:
        ValueError: an empty segment (`a//b`, `/a`, `a/`, the empty key), a segment that begins with a dot
            (`..` would leave a folder; a folder keeps its own files under such names), or a non-printable
            character.
    """
    if not key.isprintable() or any(not part or part.startswith(".") for part in key.split("/")):
        raise ValueError(
            f"{key!r} is not a key: it needs segments between single slashes, none with a leading dot"
        )
    return key
