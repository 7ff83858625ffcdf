"""Which names an object may have in every store."""


def is_key(text: str) -> bool:
    """Whether an object may have this name; see `check_key`."""
    return text.isprintable() and all(part and not part.startswith(".") for part in text.split("/"))


def check_key(key: str) -> str:
    """Return an object's key, if it names the same thing in every store.

    Raises:
        ValueError: an empty segment (`a//b`, `/a`, `a/`, the empty key), a segment that begins with a dot
            (`..` would leave a folder; a folder keeps its own files under such names), or a non-printable
            character.
    """
    if not is_key(key):
        raise ValueError(
            f"{key!r} is not a key: it needs segments between single slashes, none with a leading dot"
        )
    return key
