"""What the folder store does beyond what every store promises: files, permissions, locks, full disks."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from urllib.parse import unquote, urlsplit

import pytest

from oam_mosaic_assets.errors import DiskFull, MosaicError, StoreRefused, StoreUnavailable
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, PreconditionFailed
from oam_mosaic_assets_tests.chain import quick_folder

JSON = Headers("application/json")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("public", "mode"), [(True, 0o644), (False, 0o600)])
def test_an_object_is_a_file_with_its_rights(store: FolderStore, *, public: bool, mode: int) -> None:
    store.put_bytes("mosaic/a b.json", b"{}", JSON, public=public)

    path = Path(unquote(urlsplit(store.public_address("mosaic/a b.json")).path))
    assert path == store.root / "mosaic" / "a b.json"
    assert path.read_bytes() == b"{}"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_whatever_the_umask_everyone_may_enter_the_folders_of_public_objects_alone(
    store: FolderStore,
) -> None:
    before = os.umask(0o077)
    try:
        store.put_bytes("mosaic/staging/b/c.json", b"{}", JSON)
        store.put_bytes("mosaic/builds/b/c.json", b"{}", JSON, public=True)
    finally:
        os.umask(before)

    modes = {
        folder.relative_to(store.root).as_posix(): stat.S_IMODE(folder.stat().st_mode)
        for folder in (store.root, *store.root.rglob("*"))
        if folder.is_dir()
    }
    opened = dict.fromkeys((".", "mosaic", "mosaic/builds", "mosaic/builds/b"), 0o755)
    assert modes == opened | dict.fromkeys(("mosaic/staging", "mosaic/staging/b"), 0o700)
    assert store.read_publicly("mosaic/builds/b/c.json") == b"{}"


@pytest.mark.parametrize("closed", ["", "mosaic", "mosaic/builds"])
def test_what_lies_in_a_folder_that_others_may_not_enter_is_not_public(
    store: FolderStore, closed: str
) -> None:
    store.put_bytes("mosaic/builds/a.json", b"{}", JSON, public=True)
    (store.root / closed).chmod(0o750)

    assert store.read_publicly("mosaic/builds/a.json") is None
    assert store.head_publicly("mosaic/builds/a.json") is None


def test_a_store_is_named_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = FolderStore(Path("data/store"))
    monkeypatch.chdir("/")

    assert store.origin == (tmp_path / "data" / "store").as_uri()
    assert not (tmp_path / "data").exists()


def test_what_is_done_to_a_file_that_was_read_does_not_reach_the_object(
    store: FolderStore, tmp_path: Path
) -> None:
    written = store.put_bytes("a", b"object", JSON)

    store.get_file("a", tmp_path / "target")
    with (tmp_path / "target").open("r+b") as file:
        file.write(b"edited")

    assert store.get_bytes("a") == (b"object", written)


def test_a_reader_keeps_the_object_that_it_opened(store: FolderStore) -> None:
    store.put_bytes("a", b"first", JSON)

    with (store.root / "a").open("rb") as reader:
        store.put_bytes("a", b"second, longer", JSON)
        assert reader.read() == b"first"


def test_no_two_writes_have_the_same_etag(store: FolderStore) -> None:
    """Not even writes of the same size, within one tick of the kernel's clock, to reused inodes."""
    etags = [store.put_bytes("a", b"same", JSON).etag for _ in range(100)]

    assert len(set(etags)) == 100


def test_a_conditional_write_waits_for_its_turn_and_looks_then(store: FolderStore) -> None:
    first = store.put_bytes("a", b"first", JSON)

    with ThreadPoolExecutor(1) as writer, (store.root / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = writer.submit(store.put_bytes, "a", b"second", JSON, if_match=first.etag)
        time.sleep(0.2)
        (store.root / "a").write_bytes(b"another's")
        fcntl.flock(lock, fcntl.LOCK_UN)
        with pytest.raises(PreconditionFailed):
            second.result(timeout=30)

    assert (store.root / "a").read_bytes() == b"another's"


INCREMENT = """
import sys
from pathlib import Path
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, PreconditionFailed

store, done = FolderStore(Path(sys.argv[1])), 0
while done < 50:
    content, counter = store.get_bytes("counter")
    try:
        store.put_bytes("counter", b"%d" % (int(content) + 1), Headers("text/plain"), if_match=counter.etag)
        done += 1
    except PreconditionFailed:
        pass
"""


def test_processes_do_not_overwrite_one_another(store: FolderStore) -> None:
    store.put_bytes("counter", b"0", JSON)

    children = [subprocess.Popen([sys.executable, "-c", INCREMENT, str(store.root)]) for _ in range(2)]

    assert [child.wait(timeout=60) for child in children] == [0, 0]
    found = store.get_bytes("counter")
    assert found is not None
    assert found[0] == b"100"


def test_folders_go_with_their_last_object(store: FolderStore) -> None:
    store.put_bytes("staging/1/a", b"", JSON)
    store.put_bytes("staging/2/a", b"", JSON)

    store.delete(["staging/1/a"])
    assert [path.name for path in (store.root / "staging").iterdir()] == ["2"]

    store.delete(["staging/2/a"])
    assert files_in(store.root) == [".lock"]
    assert not (store.root / "staging").exists()


def test_a_folder_is_not_taken_away_from_a_writer(store: FolderStore) -> None:
    def write_and_delete(writer: int) -> None:
        for _ in range(25):
            store.put_bytes(f"a/b/{writer}", b"", JSON)
            store.delete([f"a/b/{writer}"])

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write_and_delete, range(4)))

    assert list(store.keys("")) == []


def test_an_object_is_not_a_folder_too(store: FolderStore) -> None:
    store.put_bytes("a", b"", JSON)

    with pytest.raises(StoreRefused, match="cannot write a/b"):
        store.put_bytes("a/b", b"", JSON)
    assert store.head("a/b") is None

    store.put_bytes("c/d", b"", JSON)
    with pytest.raises(StoreRefused, match="cannot write c "):
        store.put_bytes("c", b"", JSON)
    assert store.head("c") is None
    assert store.get_bytes("c") is None
    assert [stored.key for stored in store.keys("")] == ["a", "c/d"]
    assert files_in(store.root) == [".lock", "a", "c/d"]


@pytest.mark.parametrize("name", [".rsync-partial/a", "b/.AppleDouble/a", "b/two\nlines", "b/\udcff"])
def test_a_file_that_no_key_can_name_is_no_object(store: FolderStore, name: str) -> None:
    """Other programs leave theirs: what is listed must be an object that can be read and deleted."""
    stored = store.put_bytes("b/a", b"", JSON)
    (store.root / name).parent.mkdir(exist_ok=True)
    (store.root / name).write_bytes(b"theirs")

    assert list(store.keys("")) == [stored]


@pytest.mark.usefixtures("nobody")
def test_a_folder_that_no_key_can_name_need_not_be_readable() -> None:
    """As the trash of another user, at the root of a volume."""
    with quick_folder() as volume:
        store = FolderStore(volume)
        stored = store.put_bytes("a", b"", JSON)
        (volume / ".Trash-1000").mkdir(mode=0)

        assert list(store.keys("")) == [stored]


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EROFS, StoreRefused),
        (errno.EACCES, StoreRefused),
        (errno.EIO, StoreUnavailable),
    ],
)
def test_a_write_that_fails_leaves_what_was_there(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, number: int, error: type[MosaicError]
) -> None:
    before = store.put_bytes("a", b"before", JSON)

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(error, match=f"cannot write a in {store.origin}: {os.strerror(number)}"):
            store.put_bytes("a", b"after", JSON)

    assert store.get_bytes("a") == (b"before", before)
    assert files_in(store.root) == [".lock", "a"]


def test_a_read_that_fills_the_disk_leaves_nothing(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_bytes("a", b"1", JSON)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("oam_mosaic_assets.gateways.folder_store.copy_content", fail)
    with pytest.raises(DiskFull, match=str(tmp_path / "target")):
        store.get_file("a", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_read_that_the_stores_disk_fails_is_told_from_a_target_that_cannot_be_written(
    store: FolderStore, tmp_path: Path
) -> None:
    store.put_bytes("a", b"1", JSON)
    (store.root / "broken").symlink_to("/proc/self/mem")  # its first byte cannot be read: EIO

    with pytest.raises(StoreUnavailable, match=f"cannot read broken in {store.origin}: Input/output error"):
        store.get_file("broken", tmp_path / "target")
    with pytest.raises(FileNotFoundError, match="missing"):
        store.get_file("a", tmp_path / "missing" / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_store_on_another_file_system_is_filled_all_the_same(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the kernel copies part of a file by itself, and then refuses."""
    content = os.urandom(100_000)
    (tmp_path / "source").write_bytes(content)
    copy_inside = os.copy_file_range
    copied = 0

    def copy_a_little(source: int, target: int, count: int) -> int:
        nonlocal copied
        if copied:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        copied = copy_inside(source, target, min(count, 1000))
        return copied

    monkeypatch.setattr(os, "copy_file_range", copy_a_little)
    written = store.put_file("a", tmp_path / "source", JSON)

    assert copied == 1000
    assert store.get_bytes("a") == (content, written)


PUT = """
import sys
from pathlib import Path
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers

FolderStore(Path(sys.argv[1])).put_file("staging/1/a", Path(sys.argv[2]), Headers("text/plain"))
"""


def test_what_a_killed_write_leaves_can_be_abandoned(store: FolderStore, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    kept = store.put_bytes("staging/a", b"", JSON)
    child = subprocess.Popen([sys.executable, "-c", PUT, str(store.root), str(pipe)])
    with child, pipe.open("wb"):  # the child waits for input that never comes
        deadline = time.monotonic() + 30
        while len(files_in(store.root)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        child.kill()
    assert len(files_in(store.root)) == 3

    assert list(store.keys("")) == [kept]
    assert store.abandon_uploads("staging/1/", older_than_seconds=3600) == 0
    assert store.abandon_uploads("cache/", older_than_seconds=0) == 0
    assert store.abandon_uploads("staging/1/", older_than_seconds=0, exactly=True) == 0
    assert store.abandon_uploads("staging/1/", older_than_seconds=0) == 1
    assert files_in(store.root) == [".lock", "staging/a"]
    assert not (store.root / "staging" / "1").exists()


class Interrupt(BaseException):
    """Raised by a signal."""


@contextmanager
def interrupted_at(number: int) -> Iterator[None]:
    """Raise at this line, counted from 1, of those that the store and its context managers execute."""
    left, before = number, sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        if Path(frame.f_code.co_filename).name not in {"folder_store.py", "contextlib.py"}:
            return None
        left -= event == "line"
        if left == 0:
            sys.settrace(before)
            raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


# Python closes what an interrupt left open, and says so
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_write_that_is_interrupted_at_any_line_leaves_nothing_and_does_not_keep_the_lock() -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it waits for a lock that this process has kept itself")

    with quick_folder() as folder, ExitStack() as ending:
        ending.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, fail))
        ending.callback(signal.alarm, 0)
        store = FolderStore(folder)
        store.put_bytes("a", b"before", JSON)
        for number in count(1):
            signal.alarm(10)
            try:
                with interrupted_at(number):
                    store.put_bytes("a", b"after", JSON)
                break
            except Interrupt:  # what cleans up after it runs while its frames are still there
                store.put_bytes("b", b"{}", JSON)
            assert files_in(folder) == [".lock", "a", "b"]
        assert number > 50
