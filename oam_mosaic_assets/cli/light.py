"""The commands that need no Dagster: status, sample, validate."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from oam_mosaic_assets.cli.releases import say
from oam_mosaic_assets.core.freshness import judge_freshness
from oam_mosaic_assets.core.moments import minute
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import (
    ArchiveUnreadable,
    CatalogueRefused,
    CatalogueUnavailable,
    DiskFull,
    SettingsError,
    StoreRefused,
)
from oam_mosaic_assets.gateways.comparison import compare
from oam_mosaic_assets.gateways.from_settings import catalogue_of, store_of
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.scratch_folder import leaving_no_folder
from oam_mosaic_assets.gateways.takedowns import how_to_finish, not_gone
from oam_mosaic_assets.gateways.whole_file import NO_ROOM
from oam_mosaic_assets.settings import SOURCES, Settings

if TYPE_CHECKING:
    from oam_mosaic_assets.core.archive import Archive

_LABELS = {"text": "state", "tilejson": "TileJSON", "sha256": "SHA-256"}
"""What a person reads in place of the name of a fact."""


def show_status(*, as_json: bool, ask_catalogue: bool) -> int:
    """Print what is public and whether it can be trusted; returns 0 if it can and all was told, else 1."""
    settings = Settings.read()
    releases = Releases(store_of(settings), settings.keys)
    pointer, differences = releases.looked_at(say)
    hold = releases.holds.present()
    waiting = releases.staged.held()
    unfinished, remarks = _takedowns(releases, is_held=bool(waiting))
    catalogue = catalogue_of(settings)
    is_asked = ask_catalogue and not settings.test_mode  # that shows only part of it
    compared = pointer if is_asked and pointer and pointer.is_comparable(catalogue.kind) else None
    scratch = settings.mosaic_scratch
    comparison, untold = None, ""
    try:
        with leaving_no_folder(scratch):
            comparison = compare(catalogue, releases, compared, scratch=scratch) if compared else None
    except (CatalogueUnavailable, CatalogueRefused) as error:  # what is public can be told all the same
        untold = f"--catalogue: not compared. {error.message.rstrip('.')}. {error.hint}"
    verdict = judge_freshness(
        pointer,
        differences=differences,
        comparison=comparison,
        now=datetime.now(UTC),
        warn_hours=settings.fresh_warn_hours,
        fail_hours=settings.fresh_fail_hours,
        held=str(hold) if hold else "",
        not_gone=unfinished or 0,
    )
    facts: dict[str, Any] = {
        "store": f"{releases.store.origin}/{settings.keys.root}".rstrip("/"),
        "source": catalogue.origin,
        "fresh": verdict.passed,
        "text": verdict.text,
        **verdict.numbers,
        "held": hold and asdict(hold) if as_json else str(hold or "no"),
        "waiting": waiting,
        "remarks": [*settings.remarks(), *settings.replaces(pointer), *remarks],
    }
    if ask_catalogue and not is_asked:
        facts["remarks"].append("--catalogue: not compared, as TEST_MODE draws only a part of it.")
    if is_asked and not compared:
        why = "the public mosaic shows another source" if pointer else "nothing is public"
        facts["remarks"].append(f"--catalogue: not compared, as {why}.")
    if untold:
        facts["remarks"].append(untold)
    elif compared and comparison is None:
        facts |= {"text": f"{verdict.text}; the catalogue does not say how many it holds", "catalogued": None}
    if pointer:
        address = releases.store.public_address
        facts |= {
            "snapshot": pointer.snapshot_taken_at if as_json else minute(pointer.snapshot_taken_at),
            "public_since": pointer.published_at if as_json else minute(pointer.published_at),
            "read_from": pointer.source if as_json else SOURCES.get(pointer.source, pointer.source),
            "set_aside": pointer.set_aside,
            "bytes": pointer.size,
            "sha256": pointer.sha256,
            "archive": address(settings.keys.archive),
            "tilejson": address(settings.keys.tilejson),
            "manifest": address(pointer.manifest),
            "products": [address(key) for name in pointer.released for key in settings.keys.fixed(name)],
        }
    _print(facts, as_json=as_json)
    return 0 if verdict.passed and not untold and unfinished is not None else 1


def _takedowns(releases: Releases, *, is_held: bool) -> tuple[int | None, list[str]]:
    """How many images that were taken down may still be public or kept, and a remark; None if unknown."""
    try:
        names = releases.takedowns.unfinished()
    except StoreRefused as error:  # what is public can be told all the same
        return None, [str(error)]
    if not names:
        return 0, []
    return len(names), [f"Takedown: {not_gone(names)}. {how_to_finish(names, is_held=is_held)}"]


def write_sample(images: int, output: Path | None, *, may_overwrite: bool) -> int:
    """Write the sample catalogue, one item per line; over a file that is there only if that may be."""
    from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue  # noqa: PLC0415
    from oam_mosaic_assets.gateways.catalogue.source import Unreadable  # noqa: PLC0415

    try:
        catalogue = SampleCatalogue(images)
    except ValueError as error:
        raise SettingsError(f"--images: {error}.", hint="Give a larger number.") from None
    if output and output.is_file() and not may_overwrite:
        raise SettingsError(
            f"--output: {output} is there already.", hint="Name another file, or add --force to overwrite it."
        )
    with catalogue.snapshot() as snapshot, _written(output) if output else standard_output() as target:
        for item in snapshot.items():
            # a row that is no item is written as a real file would have it
            text = item.text if isinstance(item, Unreadable) else json.dumps(item, ensure_ascii=False)
            target.write(f"{text}\n")
    if output:
        say(f"Wrote {images:,} made-up items to {output}")
    return 0


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """The file that `--output` names."""
    try:
        with path.open("w", encoding="utf-8") as target:
            yield target
    except OSError as error:
        raise SettingsError(
            f"--output: {path} cannot be written: {error.strerror}.", hint="Name another file."
        ) from None


def show_archive(path: Path, *, as_json: bool) -> int:
    """Read a whole archive and print what it holds; returns 3 if something in it is broken."""
    from oam_mosaic_assets.core.archive import (  # noqa: PLC0415
        BrokenArchive,
        NoArchive,
        is_vector,
        open_archive,
    )
    from oam_mosaic_assets.core.density_reading import is_density  # noqa: PLC0415

    try:
        with open_archive(path) as archive:
            read = _read_footprints if is_vector(archive) else _read_pictures
            tiles_by_zoom, whole, held = (_read_density if is_density(archive) else read)(archive)
            metadata, bounds, size = archive.metadata, archive.bounds, archive.size
            stated = archive.header["addressed_tiles_count"]
    except (NoArchive, OSError) as error:
        said = getattr(error, "strerror", None) or error  # without `[Errno 2]` and the path again
        raise ArchiveUnreadable(
            f"{path} cannot be read: {said}.", hint="Give a PMTiles archive of this project."
        ) from None
    except BrokenArchive as error:
        _print({"whole": False, "faults": [str(error)]}, as_json=as_json)
        return 3
    tiles = sum(tiles_by_zoom.values())
    whole &= tiles == stated
    if tiles != stated:
        held["faults"].append("header and directories disagree")
    facts = {
        "whole": whole,
        "name": metadata.get("name"),
        "attribution": metadata.get("attribution"),
        "snapshot": metadata.get("snapshot"),
        "generator": metadata.get("generator"),
        "bytes": size,
        "bounds": bounds,
        "tiles": tiles,
        "tiles_by_zoom": tiles_by_zoom,
    }
    _print({**facts, **held}, as_json=as_json)
    return 0 if whole else 3


def _read_footprints(archive: Archive) -> tuple[Mapping[int, int], bool, dict[str, Any]]:
    """Tiles by zoom, whether all are intact, and what else to print about them."""
    from oam_mosaic_assets.core.archive import counts_images, fields_of  # noqa: PLC0415
    from oam_mosaic_assets.core.drawn import read_drawn  # noqa: PLC0415

    drawn = read_drawn(archive, None, layer=TilingPlan().layer, fields=fields_of(archive))
    low = {"low_zooms": "count small images instead of drawing each"} if counts_images(archive) else {}
    told = {
        "images_by_zoom": drawn.images,
        **low,
        "broken_tiles": drawn.fault_count,
        "faults": [*drawn.faults],
    }
    return drawn.tiles, not drawn.fault_count and not drawn.strangers, told


def _read_density(archive: Archive) -> tuple[Mapping[int, int], bool, dict[str, Any]]:
    """The same for a density grid."""
    from oam_mosaic_assets.core.audit import NAMED  # noqa: PLC0415
    from oam_mosaic_assets.core.density_reading import read_density  # noqa: PLC0415

    grid = read_density(archive)
    told = {
        "images_by_zoom": grid.images,
        "broken_tiles": len(grid.faults),
        "faults": [*grid.faults[:NAMED]],
    }
    return grid.tiles, not grid.faults, told


def _read_pictures(archive: Archive) -> tuple[Mapping[int, int], bool, dict[str, Any]]:
    """The same for pictures."""
    from oam_mosaic_assets.core.picture_tiles import read_pictures  # noqa: PLC0415

    found = read_pictures(archive)
    sizes = [f"{width} x {height} pixels" for width, height in sorted(found.sizes)]
    told = {"pictures": sizes, "broken_tiles": len(found.faults), "faults": found.faults[:10]}
    return found.tiles, not found.faults, told


def _print(facts: Mapping[str, Any], *, as_json: bool) -> None:
    with standard_output() as target:
        if as_json:
            target.write(json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
            return
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            head = f"{_LABELS.get(name, name.replace('_', ' ')):<{width}}  "
            target.write(head + f"\n{' ' * len(head)}".join(_lines(value)) + "\n")


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Standard output whose reader may stop early, as in `oam-mosaic sample | head`; that is not an error."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_the_rest()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        _drop_the_rest()
        raise DiskFull(
            f"Standard output cannot be written: {error.strerror}.", hint="Free some space, and run again."
        ) from None


def _drop_the_rest() -> None:
    """Python flushes what is left when it exits; nobody would read it, or it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return list(map(str, value)) or ["none"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, int):
        return [f"{value:,}"]
    if isinstance(value, Mapping):
        return ["  ".join(f"z{key} {number:,}" for key, number in value.items())]
    if isinstance(value, tuple):
        return [", ".join(map(str, value))]
    return ["-" if value is None else str(value)]
