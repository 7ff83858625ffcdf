"""The object store as a local folder: an object is a file, its key the path below the root.

Every object is written to a temporary file beside its own and renamed into place, so a file's bytes never
change once it can be read: an open file stays the same object to its end. Renames happen one at a time, under
a lock shared by all processes that work in the folder. Names that begin with a dot are the store's own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from oam_mosaic_assets.core.key import check_key, is_key
from oam_mosaic_assets.errors import DiskFull, StoreRefused, StoreUnavailable
from oam_mosaic_assets.gateways.object_store import (
    Headers,
    PreconditionFailed,
    PublicHead,
    StoredObject,
    check_range,
)
from oam_mosaic_assets.gateways.whole_file import NO_ROOM, copy_content, partial_beside, whole_file

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
ENTERED: Final = 0o055
"""What everyone needs of a folder with public objects, whatever the umask."""

PARTIAL: Final = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.partial")
REFUSALS: Final = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    }
)
_ELSEWHERE: Final = "Set MOSAIC_STORE to a folder that this user may write to."


class FolderStore:
    """An `ObjectStore` in a folder, which is created when the first object is written.

    A public object is a file that everyone may read (mode 0644), in folders that everyone may enter (0755); a
    private one is only its owner's (0600). Headers are not kept, because nothing serves them. Unlike on S3,
    `a` and `a/b` cannot both be objects.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def origin(self) -> str:
        """The folder's `file://` address."""
        return self.root.as_uri()

    @property
    def keeps_headers(self) -> bool:
        """See `ObjectStore.keeps_headers`."""
        return False

    def put_file(
        self,
        key: str,
        path: Path,
        headers: Headers,  # noqa: ARG002  # files have none
        *,
        public: bool = False,
    ) -> StoredObject:
        """See `ObjectStore.put_file`."""
        with path.open("rb") as source:
            return self._write(key, lambda target: copy_content(source, target), public=public)

    def put_bytes(
        self,
        key: str,
        content: bytes,
        headers: Headers,  # noqa: ARG002  # files have none
        *,
        public: bool = False,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> StoredObject:
        """See `ObjectStore.put_bytes`."""

        def check() -> None:
            present = self.head(key)
            if if_absent and present is not None:
                raise PreconditionFailed(f"{key} in {self.origin} already exists")
            if if_match is not None and (present is None or present.etag != if_match):
                raise PreconditionFailed(f"{key} in {self.origin} is not the expected object, or is gone")

        return self._write(key, lambda target: target.write(content), public=public, check=check)

    def copy(
        self,
        source: StoredObject,
        key: str,
        headers: Headers,  # noqa: ARG002  # files have none
        *,
        public: bool = False,
    ) -> StoredObject:
        """See `ObjectStore.copy`."""
        opened = self._open(source.key)
        if opened is None:
            raise PreconditionFailed(f"{source.key} in {self.origin} is gone")
        file, present = opened
        with file:
            if present != source:
                raise PreconditionFailed(f"{source.key} in {self.origin} has been replaced")
            return self._write(key, lambda target: copy_content(file, target), public=public)

    def head(self, key: str) -> StoredObject | None:
        """See `ObjectStore.head`."""
        with self._faults("inspect", key):
            return _object_at(self._path(key), key)

    def get_bytes(self, key: str) -> tuple[bytes, StoredObject] | None:
        """See `ObjectStore.get_bytes`."""
        with self._faults("read", key):
            opened = self._open(key)
            if opened is None:
                return None
            file, found = opened
            with file:
                return file.read(), found

    def get_file(self, key: str, path: Path) -> StoredObject | None:
        """See `ObjectStore.get_file`. The file is a copy: changing it leaves the object as it is."""
        opened = self._open(key)
        if opened is None:
            return None
        source, found = opened
        with source, whole_file(path) as target:
            copy_content(source, target, lambda: self._faults("read", key))
        return found

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        """See `ObjectStore.keys`."""
        with self._faults("list", prefix):
            near = (path.relative_to(self.root).as_posix() for path in self._files_near(prefix))
            names = sorted(name for name in near if name.startswith(prefix) and is_key(name))
            found = [_object_at(self.root / name, name) for name in names]
        return (stored for stored in found if stored is not None)

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        for key in keys:
            path = self._path(key)
            with self._faults("delete", key), self._lock():
                if _object_at(path, key) is not None:
                    path.unlink()
                    self._remove_empty_folders_above(path)

    def abandon_uploads(self, prefix: str, *, older_than_seconds: float, exactly: bool = False) -> int:
        """See `ObjectStore.abandon_uploads`."""
        latest = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        removed = 0
        with self._faults("clean up", prefix), self._lock():
            for path in list(self._files_near(prefix, below=not exactly)):
                if (partial := PARTIAL.fullmatch(path.name)) is None:
                    continue
                key = path.with_name(partial["name"]).relative_to(self.root).as_posix()
                found = _object_at(path, key)
                is_meant = key == prefix if exactly else key.startswith(prefix)
                if found is not None and is_meant and found.written_at <= latest:
                    path.unlink(missing_ok=True)
                    self._remove_empty_folders_above(path)
                    removed += 1
        return removed

    def public_address(self, key: str) -> str:
        """The file's `file://` address."""
        return self._path(key).as_uri()

    def head_publicly(self, key: str) -> PublicHead | None:
        """See `ObjectStore.head_publicly`. A file has no headers, so its type is unknown."""
        with self._faults("inspect", key):
            opened = self._open(key)
            if opened is None:
                return None
            with opened[0] as file:
                return PublicHead(opened[1].size, None) if self._is_public(key, file) else None

    def read_publicly(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        """See `ObjectStore.read_publicly`. The public is anyone but the file's owner and group."""
        check_range(start, length)
        with self._faults("read", key):
            opened = self._open(key)
            if opened is None:
                return None
            with opened[0] as file:
                if not self._is_public(key, file):
                    return None
                file.seek(start)
                return file.read(-1 if length is None else length)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _folders_above(self, path: Path) -> Iterator[Path]:
        """The folders that lead to a file, up to the store's own; those above are not the store's."""
        for folder in path.parents:
            yield folder
            if folder == self.root:
                return

    def _is_public(self, key: str, file: BinaryIO) -> bool:
        """Whether everyone may read the file, and enter the folders that lead to it."""
        return bool(os.fstat(file.fileno()).st_mode & stat.S_IROTH) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in self._folders_above(self._path(key))
        )

    def _let_everyone_enter(self, path: Path) -> None:
        """Open the folders that lead to a file; those that are open already may be another user's."""
        for folder in self._folders_above(path):
            mode = stat.S_IMODE(folder.stat().st_mode)
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | ENTERED)

    def _open(self, key: str) -> tuple[BinaryIO, StoredObject] | None:
        """Open an object and describe it; the file stays that object, whatever happens to its key."""
        with self._faults("read", key):
            try:
                file = self._path(key).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            return file, _describe(key, os.fstat(file.fileno()))

    def _write(
        self,
        key: str,
        fill: Callable[[BinaryIO], object],
        *,
        public: bool,
        check: Callable[[], None] = lambda: None,
    ) -> StoredObject:
        """Fill a new file and rename it to the key, unless the check, made under the lock, raises."""
        path = self._path(key)
        partial = partial_beside(path)
        with self._faults("write", key):
            try:
                with self._lock():  # or `delete` might remove the folder while it is still empty
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if public:
                        self._let_everyone_enter(path)
                    file = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb")
                with file:
                    fill(file)
                    file.flush()
                    os.fchmod(file.fileno(), PUBLIC if public else PRIVATE)
                    # The kernel's own time may stand still for milliseconds, and the ETag relies on it.
                    os.utime(file.fileno(), ns=(time.time_ns(),) * 2)
                    os.fsync(file.fileno())
                    written = _describe(key, os.fstat(file.fileno()))
                with self._lock():
                    check()
                    partial.replace(path)
            except BaseException:
                with suppress(OSError):  # the first failure must be seen
                    partial.unlink()
                raise
            _sync_folder(path.parent)
        return written

    def _lock(self) -> BinaryIO:
        """Hold the store's lock until it is closed: briefly, never while writing content.

        The kernel frees a dead process's. It is a file, as a generator would keep the lock if a signal
        interrupted it on the way into or out of a `with` block, and what cleans up then would wait for ever.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except FileExistsError as fault:
            raise StoreRefused(f"{self.root} is a file, not a folder", hint=_ELSEWHERE) from fault
        except FileNotFoundError as fault:  # nobody can make a folder there, such as below /proc
            raise StoreRefused(f"cannot create {self.root}: {fault.strerror}", hint=_ELSEWHERE) from fault
        lock = (self.root / ".lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return lock  # noqa: TRY300  # an interrupt here closes it, too
        except BaseException:
            lock.close()
            raise

    def _files_near(self, prefix: str, *, below: bool = True) -> Iterator[Path]:
        """Walk the files in the deepest folder that holds every key of the prefix, the store's own too.

        Args:
            prefix: of the keys.
            below: also in the folders below that one; at the root of a volume they may be another user's.
        """
        folder = prefix.rpartition("/")[0]

        def fail(fault: OSError) -> None:  # or `os.walk` skips what it cannot read
            if not isinstance(fault, FileNotFoundError | NotADirectoryError):
                raise fault

        for place, folders, names in os.walk(self._path(folder) if folder else self.root, onerror=fail):
            # what lies in folders such as `.rsync-partial` or `.Trash-1000` is no object
            folders[:] = [each for each in folders if below and not each.startswith(".")]
            yield from (Path(place, name) for name in names)

    def _remove_empty_folders_above(self, path: Path) -> None:
        for folder in self._folders_above(path):
            if folder == self.root or any(folder.iterdir()):
                return
            folder.rmdir()

    @contextmanager
    def _faults(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            what = f"cannot {action} {key} in {self.origin}: {fault.strerror}"
            if fault.errno in NO_ROOM:
                raise DiskFull(what, hint="Free some space, or choose a folder on a larger disk.") from fault
            if fault.errno in REFUSALS:
                raise StoreRefused(what, hint=_ELSEWHERE) from fault
            raise StoreUnavailable(what, hint="Check the disk or mount that holds the folder.") from fault


def _object_at(path: Path, key: str) -> StoredObject | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _describe(key, status) if stat.S_ISREG(status.st_mode) else None


def _describe(key: str, status: os.stat_result) -> StoredObject:
    return StoredObject(
        key=key,
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
        size=status.st_size,
        written_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
