"""Files that appear under their name only once they are complete, and otherwise leave nothing behind."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, Final

from oam_mosaic_assets.errors import DiskFull

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_PIECE: Final = 1 << 20


def partial_beside(path: Path) -> Path:
    """Name a file beside `path`, on the same file system, to be renamed to it: `.name.<16 hex>.partial`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` if the block succeeds, and is removed if it fails.

    Raises:
        DiskFull: no room is left on the disk of `path`.
        OSError: the folder of `path` is missing or not writable.
    """
    partial = partial_beside(path)
    try:
        with partial.open("xb") as file:
            yield file  # not synced to disk: after a power failure it is fetched again
        partial.replace(path)
    except BaseException as fault:
        partial.unlink(missing_ok=True)
        if isinstance(fault, OSError) and fault.errno in NO_ROOM:
            raise DiskFull(f"no space left for {path}", hint="Free some space on that disk.") from fault
        raise


def copy_content(
    source: BinaryIO,
    target: BinaryIO,
    reading: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Copy from the source's position to its end; inside the kernel, or by reflink, if possible.

    Args:
        source: what is copied.
        target: where to.
        reading: surrounds each read of the source, to tell its errors from the target's.
    """
    with suppress(OSError):  # not possible, or it failed: the rest is copied below, or fails there again
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
            pass
    while True:
        with reading():
            content = source.read(_PIECE)
        if not content:
            return
        target.write(content)
