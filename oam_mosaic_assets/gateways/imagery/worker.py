"""What a process does that reads images and composes blocks; `__main__` starts it.

What it decodes comes from strangers. So it holds no secrets, its memory is limited, and its parent may kill
it at any time: see `workers`. Once it is ready, it says so; it reads jobs as JSON, one per line, and answers
each with a line.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import rasterio
import shapely

from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.imagery import feather
from oam_mosaic_assets.core.imagery.blocks import (
    BLOCK_ZOOM,
    FINEST,
    STEP,
    Tile,
    Window,
    in_pixels,
    window_of,
)
from oam_mosaic_assets.core.imagery.chip import Chip, composed, within
from oam_mosaic_assets.core.imagery.fragment import tiles_of_block, write_tiles
from oam_mosaic_assets.core.imagery.outcome import NO_MEMORY, Reason, Unreadable
from oam_mosaic_assets.gateways.allocator import give_back_freed_memory
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.imagery.cog import Cog
from oam_mosaic_assets.gateways.imagery.hosts import Hosts
from oam_mosaic_assets.gateways.imagery.source import Limits, Source
from oam_mosaic_assets.gateways.imagery.tiles import Tiles

KEPT: Final = 4
"""How many images stay open: the next block often needs the same ones."""

_EXPECTED: Final = 0.25
"""Bytes to expect for each map pixel of a footprint: what a JPEG takes per pixel at the least."""

_REUSED: Final = 16 * 2**20
"""Bytes of freed memory that are kept for the next image: four blocks of pixels. Otherwise a tenth of the
time goes into returning memory to the system and requesting it again."""

Answer = dict[str, Any]

_Key = tuple[str, str | None]
"""An image's address, and how to show it."""


class ScratchFault(OSError):
    """The scratch folder cannot be used, as when its disk is full; no image's fault."""


class Reader:
    """Reads images, one after another."""

    def __init__(self, rules: Rules, limits: Limits) -> None:
        self._hosts = Hosts(rules)
        self._limits = limits
        self._open: OrderedDict[_Key, Cog | Tiles] = OrderedDict()

    def look(self, job: Mapping[str, Any]) -> Answer:
        """Check which version of an image there is, and if it is not the known one, that it can be read."""

        def see(image: Cog | Tiles) -> None:
            if isinstance(image, Tiles):
                image.see()

        return self._told(job, see, fresh=True, expected=0, known=job.get("etag", ""))

    def chip(self, job: Mapping[str, Any]) -> Answer:
        """Cut what an image shows in some blocks, each chip into the file that the job names."""
        area = in_pixels(shapely.from_wkb(job["footprint"]))
        whole = window_of(area)

        def cut(image: Cog | Tiles) -> None:
            is_seen = False
            for block, target in zip(job["blocks"], job["targets"], strict=True):
                chip = _chip_of(image, whole & Window.of_block(Tile(*block)), whole, area, job["feather"])
                with _in_scratch(target):
                    if chip is None:  # there may be one of the version before, if it changed meanwhile
                        Path(target).unlink(missing_ok=True)
                    else:
                        Path(target).write_bytes(chip.to_bytes())
                        is_seen = True
            if not is_seen:
                raise Unreadable(Reason.ELSEWHERE)

        fresh = bool(job.get("tiles"))  # they are those of one footprint, and opening them costs nothing
        return self._told(job, cut, fresh=fresh, expected=int(area.area * _EXPECTED))

    def _told(
        self,
        job: Mapping[str, Any],
        use: Callable[[Cog | Tiles], None],
        *,
        fresh: bool,
        expected: int,
        known: str = "",
    ) -> Answer:
        """Use an image; returns what became of it, and what it cost.

        Args:
            job: the job.
            use: uses it.
            fresh: open it anew, and do not keep it open.
            expected: see `Source`.
            known: the ETag of a version that is not to be opened, let alone used; empty for none.
        """
        key = (job["address"], job["render"])
        clock = time.monotonic()
        spent = {"requests": 0, "bytes": 0}
        for attempt in range(2):
            image = None if fresh else self._open.pop(key, None)
            source: Source | Tiles | None = image.source if image else None
            try:
                if source is None:
                    source = self._source(job, expected)
                before = (source.requests, source.bytes)
                try:
                    if not known or source.version() != known:
                        if image is None:
                            image = Cog(source, job["render"]) if isinstance(source, Source) else source
                        else:
                            image.allow()
                        use(image)
                finally:
                    spent["requests"] += source.requests - before[0]
                    spent["bytes"] += source.bytes - before[1]
            except Unreadable as failure:
                if image is not None and failure.reason is not Reason.ELSEWHERE:
                    image.close()
                    image = None
                if failure.reason is Reason.CHANGED and attempt == 0:
                    continue  # start over with the new version
                etag = source.etag if isinstance(source, Source) and source.is_known else ""
                outcome = {"reason": failure.reason, "detail": failure.detail, "etag": etag}
            else:
                outcome = {"reason": "", "detail": "", "etag": source.etag}
            break
        if image is not None:
            self._keep(key, image, fresh=fresh)
        return {**outcome, **spent, "seconds": round(time.monotonic() - clock, 3)}

    def _source(self, job: Mapping[str, Any], expected: int) -> Source | Tiles:
        if tiles := job.get("tiles"):
            area = in_pixels(shapely.from_wkb(job["footprint"]))
            return Tiles(tiles, job["address"], area, self._hosts, self._limits)
        return Source(job["address"], self._hosts, self._limits, expected=expected)

    def _keep(self, key: _Key, image: Cog | Tiles, *, fresh: bool) -> None:
        if fresh:
            image.close()
            return
        self._open[key] = image
        while len(self._open) > KEPT:
            self._open.popitem(last=False)[1].close()


def _chip_of(image: Cog | Tiles, window: Window, whole: Window, area: Area, edge: int) -> Chip | None:
    """What an image shows in a window; None if that is nothing.

    Args:
        image: the image.
        window: within a block.
        whole: the window of the whole footprint.
        area: the footprint in pixel coordinates.
        edge: width in pixels of its soft edge; 0 is a sharp edge.
    """
    # the distance to the edge also depends on pixels beyond the block
    around = whole & window.widened(STEP if edge else 0)
    pixels = None if window.is_empty else image.seen_in(around)
    if pixels is None:
        return None
    pixels = within(pixels, around, area)
    counts = feather.counted(pixels, edge) if edge else None
    return Chip(around, pixels, counts).cut_to(window).trimmed()


def compose(job: Mapping[str, Any]) -> Answer:
    """Compose a block from its chips, and write its tiles to the file that the job names."""
    block = Tile(*job["block"])
    chips = (Chip.from_bytes(Path(each).read_bytes()) for each in job["chips"])
    hints = [shapely.from_wkb(each) for each in job["hints"]]
    with _in_scratch(job["target"]):
        pixels = feather.composed(block, chips) if job["is_feathered"] else composed(block, chips)
        tiles = tiles_of_block(block, pixels, hints)
        write_tiles(Path(job["target"]), [], tiles, job["told"], zooms=(BLOCK_ZOOM, FINEST))
    return {"tiles": len(tiles)}


@contextmanager
def _in_scratch(path: str) -> Iterator[None]:
    """Tell failures of our own disk apart from those of images. Raises ScratchFault, which names the path."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Pillow's, of an image
            raise
        raise ScratchFault(error.errno, error.strerror or str(error), path) from None


def serve(settings: Mapping[str, Any]) -> None:
    """Do one job after another, until the input ends."""
    _leave_gdal_one_driver()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (settings["memory"], settings["memory"]))
    give_back_freed_memory(_REUSED)
    rules = Rules(frozenset(settings["private_hosts"]), settings["s3_endpoint"])
    reader = Reader(rules, Limits(**settings["limits"]))
    work: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
        "look": reader.look,
        "chip": reader.chip,
        "compose": compose,
    }
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    print("ready", file=answers, flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # from now on the parent does not read it
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not pass for an answer
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = work[job["do"]](job)
        except MemoryError:
            answer = {"reason": Reason.TOO_LARGE, "detail": NO_MEMORY, "etag": ""}
        except ScratchFault as fault:
            answer = {"fault": [fault.errno, fault.strerror, fault.filename]}
        print(json.dumps(answer), file=answers, flush=True)


def _leave_gdal_one_driver() -> None:
    """Leave GDAL only the driver for TIFFs: others open whatever a file names, here or at any address.

    GDAL skips drivers only if it is told their names before it registers any, so a child lists them.

    Raises:
        RuntimeError: they could not be listed.
    """
    listed, listing = os.pipe()
    if os.fork() == 0:
        try:
            with rasterio.Env() as gdal:
                os.write(listing, ",".join(gdal.drivers().keys() - {"GTiff"}).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a child must not go on as if it were its parent
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(listing)
    with os.fdopen(listed) as names:
        others = names.read()
    _, status = os.wait()
    if status or not others:
        raise RuntimeError("The drivers of GDAL could not be listed, so all of them would be used.")
    os.environ["GDAL_SKIP"] = others
