"""Comparing the catalogue with what is public, on every store: by ids, dirty items included, or by count."""

from __future__ import annotations

from pathlib import Path

from oam_mosaic_assets.core.footprint import SetAside, read_item
from oam_mosaic_assets.core.freshness import Comparison
from oam_mosaic_assets.core.release import Keys, Pointer
from oam_mosaic_assets.core.snapshot import write_snapshot
from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue
from oam_mosaic_assets.gateways.catalogue.source import Unreadable
from oam_mosaic_assets.gateways.catalogue.stac_api import StacApiCatalogue
from oam_mosaic_assets.gateways.comparison import compare
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.releases import Releases

IMAGES = 300
BUILD = "20260115T030000Z-3f9c2a7d41be"


def publish_sample(store: ObjectStore, folder: Path) -> tuple[Releases, Pointer]:
    """Store what publishing the sample keeps, with every kind of dirty item set aside."""
    keys = Keys()
    with SampleCatalogue(IMAGES).snapshot() as snapshot:
        rows = [
            SetAside(f"row {row}", "not_an_item", item.text)
            if isinstance(item, Unreadable)
            else read_item(item, row=row, now=snapshot.taken_at)
            for row, item in enumerate(snapshot.items(), start=1)
        ]
        footprints, set_aside = folder / "footprints.parquet", folder / "set_aside.parquet"
        found = write_snapshot(
            rows, taken_at=snapshot.taken_at, footprints=footprints, set_aside=set_aside, scratch=folder
        )
    for path, key in ((footprints, keys.footprints(BUILD)), (set_aside, keys.set_aside(BUILD))):
        store.put_file(key, path, Headers("application/vnd.apache.parquet"))
    moment = found.taken_at.isoformat()
    pointer = Pointer(
        build=BUILD,
        digest=found.digest,
        snapshot_taken_at=moment,
        checked_at=moment,
        published_at=moment,
        source="sample",
        images=found.drawable,
        set_aside=found.set_aside_count,
        archive="",
        manifest="",
        size=1,
        sha256="",
    )
    return Releases(store, keys), pointer


def test_what_was_drawn_or_set_aside_is_not_lacking(store: ObjectStore, tmp_path: Path) -> None:
    releases, pointer = publish_sample(store, tmp_path)

    assert pointer.set_aside > 0
    assert compare(SampleCatalogue(IMAGES), releases, pointer) == Comparison(
        catalogued=IMAGES, lacking=0, departed=0
    )


def test_another_catalogue_of_the_same_size_is_another_catalogue(store: ObjectStore, tmp_path: Path) -> None:
    releases, pointer = publish_sample(store, tmp_path)

    found = compare(SampleCatalogue(IMAGES, seed=2), releases, pointer)

    assert found.catalogued == IMAGES
    assert found.lacking > IMAGES / 2
    assert found.departed > IMAGES / 2


def test_of_an_api_only_the_number_is_asked(store: ObjectStore, tmp_path: Path) -> None:
    class CountingApi(StacApiCatalogue):
        def count(self) -> int:
            return IMAGES + 5

    releases, pointer = publish_sample(store, tmp_path)

    found = compare(CountingApi("https://stac.invalid", "openaerialmap"), releases, pointer)

    assert (found.lacking, found.departed) == (5, 0)
    assert found.only_counted == "this source cannot list ids cheaply"
