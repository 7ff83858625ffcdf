"""The catalogue's images as footprints, from one snapshot, with a table of those that cannot be drawn."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl

from oam_mosaic_assets import __version__
from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.footprint import NAMELESS, Footprint, SetAside
from oam_mosaic_assets.core.geometry import TAKEN_DOWN
from oam_mosaic_assets.core.product import IMAGERY
from oam_mosaic_assets.core.release import Pointer, counts
from oam_mosaic_assets.core.rereading import reading_digest
from oam_mosaic_assets.core.snapshot import SET_ASIDE_SCHEMA, TABLE, write_snapshot
from oam_mosaic_assets.core.snapshot import Snapshot as Found
from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable, EmptyCatalogue
from oam_mosaic_assets.gateways.catalogue.source import Catalogue
from oam_mosaic_assets.gateways.imagery_mosaic import ImageryMosaic
from oam_mosaic_assets.gateways.last_build import BEFORE
from oam_mosaic_assets.gateways.reading import footprints as footprints_of
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.rereading import unread
from oam_mosaic_assets.gateways.unchanged import note_unchanged
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged
from oam_mosaic_assets.resources.watch import Watch

FOOTPRINTS = "footprints.parquet"
SET_ASIDE = "set_aside.parquet"

TAKEDOWN_TAG = "oam-mosaic/takedown"
"""Tag of a run that takes an image off the public mosaic. No hold stops it."""

ANEW_TAG = "oam-mosaic/anew"
"""Tag of a run that builds even if nothing changed, and takes over no tiles from the public build."""

MUST_BUILD = frozenset({TAKEDOWN_TAG, ANEW_TAG})

UNCHANGED = "nothing changed"
"""Metadata key of `published_mosaic`: true if it was found to be what a build would make."""

REPORTED_EVERY = 1000
"""Images between two progress reports."""

SHOWN = 20
"""How many of the images set aside the metadata lists; the table beside the footprints lists all of them."""

QUOTED = 60
"""How many characters of a value a message quotes."""

_MEANINGS = {
    "id": "The STAC item's id, an opaque string.",
    "geometry": "WKB, EPSG:4326: valid, split at the antimeridian, within Web Mercator's latitudes.",
    "bbox": "Degrees: west, south, east, north.",
    "acquired_from": "First acquisition, UTC.",
    "acquired_to": "Last acquisition, UTC; the latest is drawn on top.",
    "updated": "When the catalogue's entry was last changed, UTC.",
    "title": "As the uploader named it.",
    "provider": "Who published it.",
    "platform": "What carried the camera: `uav`, `satellite`, `aircraft`, …",
    "sensor": "The camera.",
    "gsd": "Ground sample distance, metres.",
    "license": "SPDX identifier.",
    "asset": "Address of the image, a cloud-optimised GeoTIFF.",
    "asset_name": "Which of the item's assets it is: `visual`, or `data` in older items.",
    "thumbnail": "Address of the thumbnail.",
    "file_size": "Size of the image, bytes.",
    "tms": "Address of the image's own tiles.",
    "render_params": "How a tile service should show it, as a query string for TiTiler.",
    "unknown": "Values in the item that could not be read, each with the reason.",
    "digest": "Changes when anything in the row does.",
    "item_hash": "Changes when anything in the catalogue's item does; null if the source provides none.",
}

_COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn(name, str(kind.base_type()).lower(), description=_MEANINGS[name])
        for name, kind in TABLE.items()
    ],
)


@dg.asset(
    group_name="coverage",
    kinds={"stac", "parquet", "polars"},
    owners=["team:openaerialmap"],
    metadata={"dagster/column_schema": _COLUMNS},
    hooks={discard_staged},
    code_version="3",
    output_required=False,  # if nothing changed there is none, and downstream steps are skipped
)
def stac_footprints(
    context: dg.AssetExecutionContext,
    catalogue: dg.ResourceParam[Catalogue],
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    releases: dg.ResourceParam[Releases],
    progress: dg.ResourceParam[Progress],
    watch: dg.ResourceParam[Watch],
    imagery: dg.ResourceParam[ImageryMosaic],
    scratch: Scratch,
) -> Iterator[dg.MaterializeResult[Artifact]]:
    """Every image's footprint, from one snapshot of the catalogue, as GeoParquet (EPSG:4326).

    Images that cannot be drawn are set aside in a separate table, with the reason and the offending value. If
    the catalogue's watermark shows that nothing changed since the public build, nothing is read or built;
    except if there is more imagery to show: other machines read some, or a spent budget left some over.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    for remark in mosaic_plan.remarks:
        context.log.warning(remark)
    with failing_clearly(), catalogue.snapshot() as snapshot:
        if TAKEDOWN_TAG not in context.run.tags:
            releases.holds.refuse()  # checked again before anything becomes public
        taken_down = releases.takedowns.ids()
        basis = watch.basis(snapshot, taken_down)
        if not MUST_BUILD.intersection(context.run.tags):
            pointer = note_unchanged(
                releases,
                basis,
                imagery=imagery if IMAGERY in releases.keys.products else None,
                taken_at=snapshot.taken_at,
                say=context.log.info,
            )
            if pointer is not None:
                _say_unchanged(context, pointer, releases)
                return
        folder = scratch.folder("stac_footprints")
        footprints, set_aside = folder / FOOTPRINTS, folder / SET_ASIDE
        reading = reading_digest(__version__, catalogue.origin, mosaic_plan.box)
        again = unread(
            snapshot,
            releases,
            scratch.shared_folder(BEFORE),
            reading=reading,
            taken_down=taken_down,
            anew=ANEW_TAG in context.run.tags,
        )
        context.log.info("%s", again)
        with closing(footprints_of(again, taken_down=taken_down, now=snapshot.taken_at)) as rows:
            found = write_snapshot(
                _told(context, rows, progress, of=again.count),
                taken_at=snapshot.taken_at,
                footprints=footprints,
                set_aside=set_aside,
                scratch=folder,
                box=mosaic_plan.box,
                kept=again.kept,
                hashes=again.hashes,
                reading=reading,
            )
        holdings = snapshot.holdings()
        read = found.catalogued + found.outside
        wanted = snapshot.expected
        if wanted is not None and (read < wanted or (snapshot.is_exact and read > wanted)):
            raise CatalogueUnavailable(
                f"{catalogue.origin} counts {wanted:,} images but returned {read:,}.",
                hint="Run again; if it happens again, find out what changes the catalogue while it is read.",
            )
        if not found.drawable:
            raise _empty(catalogue, found, set_aside)
        current = releases.current()
        build = releases.staged.name_build(
            started, found.digest, run=context.run.run_id, public=current[0].build if current else ""
        )
    seconds = time.perf_counter() - clock
    said = counts(found.drawable, found.set_aside_count, found.outside, verb="to draw")
    context.log.info("%s: %s%s", build, said, _first_quoted(set_aside))
    facts = {
        "source": catalogue.kind,
        "origin": catalogue.origin,
        "basis": basis,
        "snapshot": {
            "taken_at": found.taken_at.isoformat(),
            "digest": found.digest,
            "newest": found.newest and found.newest.isoformat(),
            "bounds": found.bounds,
        },
        "images": found.drawable,
        "set_aside": found.set_aside,
        "outside_test_box": found.outside,
        "unknown_values": found.unknown,
        "holdings": {
            "collections": holdings.collections,
            "items": holdings.items,
            "is_exact": snapshot.is_exact,
        },
        "seconds": {"stac_footprints": round(seconds, 2)},
    }
    yield dg.MaterializeResult(
        value=Artifact(build=build, files=(footprints, set_aside), facts=facts),
        metadata={
            "dagster/row_count": found.drawable,
            "set aside": found.set_aside_count,
            "set aside by reason": dict(found.set_aside),
            f"first {SHOWN} set aside": _first_set_aside(set_aside),
            "unknown values": dict(found.unknown),
            "source": catalogue.origin,
            "how": str(again),
            "remarks": "\n".join(mosaic_plan.remarks) or "none",
            "snapshot": found.taken_at.isoformat(),
            "seconds": round(seconds, 2),
        },
        data_version=dg.DataVersion(found.digest[:16]),
    )


def _say_unchanged(context: dg.AssetExecutionContext, pointer: Pointer, releases: Releases) -> None:
    """Record that the published mosaic was found to be up to date; its age counts from here."""
    in_words = counts(pointer.images, pointer.set_aside)
    context.log.info("Nothing changed since %s: %s; it stays public", pointer.build, in_words)
    context.log_event(
        dg.AssetMaterialization(
            "published_mosaic",
            description=f"Nothing changed since {pointer.build}; it stays public.",
            metadata={
                "build": pointer.build,
                UNCHANGED: True,
                "counts": in_words,
                "snapshot": pointer.checked_at,
                "address": dg.MetadataValue.url(releases.store.public_address(releases.keys.archive)),
            },
        )
    )


def _empty(catalogue: Catalogue, found: Found, set_aside: Path) -> CatalogueRefused | EmptyCatalogue:
    """The error for a source without drawable images: it is not a catalogue, or an empty one."""
    what = "nothing was read"
    if found.set_aside or found.outside:
        reasons = [f"{reason} {count:,}" for reason, count in found.set_aside.items()]
        if found.outside:
            reasons.append(f"outside the test box {found.outside:,}")
        what = f"{found.catalogued + found.outside:,} read: {', '.join(reasons)}"
    quoted = _first_quoted(set_aside)
    if found.set_aside and not found.outside and found.set_aside.keys() <= NAMELESS:
        return CatalogueRefused(
            f"{catalogue.origin} holds no STAC items; {what}{quoted}.",
            hint="Choose another source; `oam-mosaic sample` shows what a file of items looks like.",
        )
    return EmptyCatalogue(
        f"{catalogue.origin} holds no image that can be drawn; {what}{quoted}. "
        "An empty mosaic is never published.",
        hint="Check that COLLECTION and the source are the right ones, that it holds STAC items, and that "
        "TEST_MODE is off; docs/operation.md explains the reasons.",
    )


def _first_quoted(set_aside: Path) -> str:
    """The first image of the list that nobody took down, for a line of text; empty if there is none."""
    listed = pl.scan_parquet(set_aside, glob=False).filter(pl.col("reason") != TAKEN_DOWN)
    first = listed.head(1).collect().rows(named=True)
    return "".join(
        f" (the first: {row['id'] if row['reason'] in NAMELESS else repr(row['id'])}, {row['reason']}, "
        f"{row['value'][:QUOTED]!r})"
        for row in first
    )


def _first_set_aside(table: Path) -> dg.TableMetadataValue:
    """The first rows of the list. The UI shows each cell as plain text, never as markup."""
    rows = pl.read_parquet(table, n_rows=SHOWN, glob=False)
    return dg.MetadataValue.table(
        records=[dg.TableRecord(row) for row in rows.iter_rows(named=True)],
        schema=dg.TableSchema([dg.TableColumn(name) for name in SET_ASIDE_SCHEMA]),
    )


def _told(
    context: dg.AssetExecutionContext,
    rows: Iterable[Footprint | SetAside],
    progress: Progress,
    *,
    of: int | None,
) -> Iterator[Footprint | SetAside]:
    """Pass on the rows, and report their number now and then."""
    of_all = f" of {of:,}" if of else ""
    for row, each in enumerate(rows, start=1):
        yield each
        if row % REPORTED_EVERY == 0:
            share = min(1.0, row / of) if of else None
            progress.step(context.log, "reading", share, f"{row:,}{of_all} images")
