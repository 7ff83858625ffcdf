"""Human-readable sizes, formatted the same everywhere."""


def size_in_words(size: float) -> str:
    """A number of bytes, in a suitable unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if round(size) < 1000:  # noqa: PLR2004
            digits = 0 if unit == "bytes" or round(size, 1) >= 10 else 1  # noqa: PLR2004
            return f"{size:.{digits}f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
