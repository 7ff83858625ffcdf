"""Whether folders can be written to, and have room for what a build puts there."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from oam_mosaic_assets.core.sizes import size_in_words
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State, tried
from oam_mosaic_assets.gateways.diagnosis.probes import left_behind
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers

WHOLE_CATALOGUE: Final = 22_792
BYTES_PER_IMAGE: Final = 2_980
"""For the mosaic and the details together, as measured with the whole catalogue."""

SCRATCH_SIZES: Final = 10
"""How large a build's scratch files are, as a multiple of the archive's size."""

_PROBE: Final = Headers("text/plain")


@dataclass(frozen=True, slots=True)
class ArchiveSize:
    """How large the next archive is expected to be, with the products beside it.

    Attributes:
        bytes: its size.
        basis: where that figure comes from.
    """

    bytes: int
    basis: str

    @classmethod
    def expected(cls, *, published: int | None, images: int | None) -> Self:
        """As large as the last one, else in proportion to the images, else as for the whole catalogue."""
        if published is not None:
            return cls(published, f"the last build has {size_in_words(published)}")
        if images is not None:
            return cls(images * BYTES_PER_IMAGE, f"estimated from {images:,} images")
        return cls(WHOLE_CATALOGUE * BYTES_PER_IMAGE, f"as measured with {WHOLE_CATALOGUE:,} images")


def examine_store_folder(root: Path, key: str, probes: str) -> Finding:
    """Write an object, replace it conditionally, read it and delete it; nothing is left behind.

    Args:
        root: the store's folder. If missing, a temporary one in its nearest existing parent is tried instead.
        key: the object's key.
        probes: prefix of such objects' keys; those that a killed examination left are deleted as well.
    """

    def try_it() -> None:
        with ExitStack() as held:
            folder = root
            if not root.exists():
                beside = tempfile.TemporaryDirectory(prefix=".doctor-", dir=_nearest(root))
                folder = Path(held.enter_context(beside))
            store = FolderStore(folder)
            held.callback(store.delete, [key, *left_behind(store, probes, now=datetime.now(UTC))])
            first = store.put_bytes(key, b"first", _PROBE, if_absent=True)
            store.put_bytes(key, b"second", _PROBE, if_match=first.etag)
            found = store.get_bytes(key)
            if found is None or found[0] != b"second":
                raise StoreUnavailable(
                    f"{root} does not hold what was just written there",
                    hint="Check the disk or mount that holds the folder.",
                )

    text = f"{root.absolute()}: objects can be written, replaced, read and deleted"
    try:
        finding = tried("store", text, try_it)
    except OSError as fault:
        return _unusable("store", root, fault, setting="MOSAIC_STORE")
    if finding.is_in_the_way and "MOSAIC_STORE" not in finding.hint:
        finding = replace(finding, hint=f"{finding.hint} It is set by MOSAIC_STORE.")
    return finding


def examine_folder(subject: str, folder: Path, *, setting: str) -> Finding:
    """Write a file into a folder, or into its nearest existing parent; nothing is left behind."""
    try:
        with tempfile.TemporaryFile(prefix=".doctor-", dir=_nearest(folder)) as file:
            file.write(b"probe")
            file.flush()
    except OSError as fault:
        return _unusable(subject, folder, fault, setting=setting)
    return Finding(subject, State.OK, f"{folder.absolute()} can be written to")


def examine_home(home: Path) -> Finding:
    """Check where Dagster keeps its records: in its home, unless its configuration names another storage."""
    subject, configuration = "Dagster's home", home / "dagster.yaml"
    try:
        if re.search(r"^storage:", configuration.read_text(encoding="utf-8"), re.MULTILINE):
            return Finding(subject, State.OK, f"{configuration} configures a storage of its own, not tried")
    except UnicodeDecodeError:
        return Finding(
            subject, State.WRONG, f"{configuration} is not UTF-8", "Save it as plain text in UTF-8."
        )
    except OSError:  # there is none, or we may not read it
        pass
    return examine_folder(subject, home, setting="DAGSTER_HOME")


def examine_room(
    subject: str, folder: Path, archive: ArchiveSize, *, archives: int, setting: str
) -> Iterator[Finding]:
    """Compare the free space with what a build needs.

    Args:
        archives: how much a build puts there, as a multiple of the archive's size.
    """
    try:
        free, need = shutil.disk_usage(_nearest(folder)).free, archive.bytes * archives
    except OSError:  # reported by the check that tried to write there
        return
    text = f"{size_in_words(free)} free; a build needs about {size_in_words(need)} ({archive.basis})"
    if free >= need:
        yield Finding(subject, State.OK, text)
        return
    state = State.WRONG if free < archive.bytes else State.WARNING
    yield Finding(subject, state, text, f"Free some space, or point {setting} at a larger disk.")


def _nearest(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())


def _unusable(subject: str, folder: Path, fault: OSError, *, setting: str) -> Finding:
    return Finding(
        subject,
        State.WRONG,
        f"{folder.absolute()} cannot be used: {fault.strerror}",
        f"Give this user write access there, or set {setting} to another folder with enough space.",
    )
