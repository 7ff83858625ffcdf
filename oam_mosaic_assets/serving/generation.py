"""One release being served: its own Martin, its own documents, its own folder."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, Final

from oam_mosaic_assets.core.archive import BrokenArchive, NoArchive
from oam_mosaic_assets.core.outline import Read, outline_of, some_tile
from oam_mosaic_assets.core.picture_tiles import tile_pixels
from oam_mosaic_assets.core.product import EXACT, IMAGERY
from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.errors import ServerFailed
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.serving.asking import answer_of
from oam_mosaic_assets.serving.documents import COVERAGE, IMAGES, SMALL_TILE, Addresses, documents_of
from oam_mosaic_assets.serving.martin import (
    RASTER,
    VECTOR,
    Sources,
    martin_configuration,
)
from oam_mosaic_assets.serving.programs import Program, free_port, until

READY_SECONDS: Final = 30.0
"""How long Martin may take to open each archive of a release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A release being served.

    Attributes:
        number: counts generations; a release that is started again gets another number.
        folder: holds all its files.
        pointer: what named this release as the public one.
        martin: its running Martin.
        port: Martin's, on the loopback interface.
        vector: Martin's TileJSON of the mosaic.
        raster: Martin's TileJSON of the pictures; None if the release has none.
        samples: Martin's paths of one tile of each archive, by the archive's key.
    """

    number: int
    folder: Path
    pointer: Pointer
    martin: Program
    port: int
    vector: Mapping[str, Any]
    raster: Mapping[str, Any] | None
    samples: Mapping[str, str]

    @property
    def documents(self) -> Path:
        """The folder that nginx serves as files."""
        return self.folder / "documents"

    def unread(self) -> str:
        """The key of an archive of which Martin gives no tile, as it cannot read it; empty if all is well."""
        return next((key for key, path in self.samples.items() if not answer_of(self.port, path)), "")

    @property
    def is_answering(self) -> bool:
        """Whether Martin answers anything, whatever becomes of the store."""
        return answer_of(self.port, "/health") is not None

    def end(self) -> None:
        """Stop its Martin and begin to delete its folder: a full cache has tens of thousands of files."""
        self.martin.stop()
        Thread(target=shutil.rmtree, args=(self.folder,), kwargs={"ignore_errors": True}, daemon=True).start()


def start_generation(
    number: int,
    parent: Path,
    pointer: Pointer,
    sources: Sources,
    *,
    store: ObjectStore,
    martin: Path,
    addresses: Addresses,
    log: logging.Logger,
    may_wait: Callable[[], bool],
) -> Generation:
    """Start a Martin for a release, and wait until it has opened every archive.

    Args:
        number: the generation's.
        parent: the folder to make its folder in.
        pointer: of the release to serve.
        sources: where Martin reads the archives.
        store: the store that holds the mosaic.
        martin: the program.
        addresses: the servers' addresses as clients see them.
        log: receives Martin's output.
        may_wait: whether nothing else has to be done first.

    Raises:
        StoreUnavailable, StoreRefused: the release could not be read; nothing of the generation is left.
        ServerFailed: Martin did not open an archive in the time that it was given, or the mosaic is broken;
            nothing of the generation is left.
    """
    folder, port = parent / f"{number}-{pointer.build}", free_port()
    documents = folder / "documents"
    with ExitStack() as undoing:
        undoing.callback(shutil.rmtree, folder, ignore_errors=True)
        (documents / "empty").mkdir(parents=True)
        configuration = folder / "martin.yaml"
        configuration.write_bytes(martin_configuration(sources, port=port))
        program = Program(
            "Martin",
            [martin, "--config", configuration],
            log=log,
            environment={"RUST_LOG": "warn", "RUST_LOG_FORMAT": "bare", "NO_COLOR": "1"},
        )
        undoing.callback(program.stop)
        vector = _described(program, port, VECTOR, may_wait)
        raster = _described(program, port, RASTER, may_wait) if sources.raster else None
        pictures = IMAGES if sources.is_imagery else COVERAGE
        if sources.raster is not None and not sources.is_imagery:
            pictures = replace(COVERAGE, pixels=_tile_pixels(store, pointer, log))
        told = documents_of(pointer, vector, raster, _outline(store, pointer, log), addresses, pictures)
        for name, content in told.items():
            (documents / name).write_bytes(content)
        empty = documents / "empty" / "204.png"
        empty.write_bytes(transparent_tile(pictures.pixels))
        os.utime(empty, (0, 0))  # nginx makes its ETag of size and time, and it is the same in every release
        keys = {VECTOR: pointer.archive}
        if sources.raster:
            keys[RASTER] = pointer.released[IMAGERY.name if sources.is_imagery else EXACT.name]
        samples = dict(_samples(store, keys))
        undoing.pop_all()  # all of it is there to stay
    return Generation(
        number=number,
        folder=folder,
        pointer=pointer,
        martin=program,
        port=port,
        vector=vector,
        raster=raster,
        samples=samples,
    )


def transparent_tile(pixels: int) -> bytes:
    """A fully transparent PNG with so many pixels along each edge."""
    from PIL import Image  # noqa: PLC0415  # needed once per release

    tile, written = Image.new("P", (pixels, pixels), 0), io.BytesIO()
    tile.putpalette([0, 0, 0])
    tile.save(written, "PNG", transparency=0, bits=1, optimize=True)
    return written.getvalue()


def _tile_pixels(store: ObjectStore, pointer: Pointer, log: logging.Logger) -> int:
    """Pixels along the edge of a raster coverage tile; 256, with a warning, if that cannot be read."""
    key = pointer.released[EXACT.name]
    try:
        return tile_pixels(_reader(store, key))
    except BrokenArchive as error:
        log.warning("assuming raster tiles of %d pixels: %s: %s", SMALL_TILE, key, error)
        return SMALL_TILE


def _samples(store: ObjectStore, keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The path of a tile of each archive, by its key; without those that only Martin can read."""
    for source, key in keys.items():
        with suppress(BrokenArchive):
            yield key, f"/{source}/{some_tile(_reader(store, key))}"


def _reader(store: ObjectStore, key: str) -> Read:
    """Reads byte ranges of an archive as any outsider does."""
    return lambda start, length: store.read_publicly(key, start=start, length=length) or b""


def _outline(store: ObjectStore, pointer: Pointer, log: logging.Logger) -> Mapping[str, Any] | None:
    """The coverage's outline; None, with a warning, if the archive is one that only Martin can read."""
    try:
        return outline_of(_reader(store, pointer.archive))
    except NoArchive as error:
        log.warning("the entry for map editors is made without an outline: %s", error)
        return None
    except BrokenArchive as error:
        raise ServerFailed(
            f"The archive {pointer.archive} is broken: {error}.",
            hint="Publish another build, or roll back to an earlier one.",
        ) from None


def _described(program: Program, port: int, source: str, may_wait: Callable[[], bool]) -> Mapping[str, Any]:
    """Martin's TileJSON of a source, once it has opened it."""
    found: list[bytes] = []

    def answers() -> bool:
        found[:] = [said] if (said := answer_of(port, f"/{source}")) else []
        return bool(found) or not program.is_running or not may_wait()

    until(answers, seconds=READY_SECONDS)
    if not found and not may_wait():
        raise ServerFailed(
            "This release is not waited for, as what is being served has to be restarted first.",
            hint="It is retried automatically.",
        )
    if not found:
        raise ServerFailed(
            f"Martin does not serve the archive {source!r} of this release. {program.end}",
            hint="Check whether the archive can be read at its public address; it is retried automatically.",
        )
    described: dict[str, Any] = json.loads(found[0])
    return described
