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
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, StoredObject
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
    assert compare(SampleCatalogue(IMAGES), releases, pointer, scratch=tmp_path) == Comparison(
        catalogued=IMAGES, lacking=0, departed=0
    )


def test_another_catalogue_of_the_same_size_is_another_catalogue(store: ObjectStore, tmp_path: Path) -> None:
    releases, pointer = publish_sample(store, tmp_path)

    found = compare(SampleCatalogue(IMAGES, seed=2), releases, pointer, scratch=tmp_path)

    assert found.catalogued == IMAGES
    assert found.lacking > IMAGES / 2
    assert found.departed > IMAGES / 2


def test_of_an_api_only_the_number_is_asked(store: ObjectStore, tmp_path: Path) -> None:
    class CountingApi(StacApiCatalogue):
        def count(self) -> int:
            return IMAGES + 5

    releases, pointer = publish_sample(store, tmp_path)

    found = compare(CountingApi("https://stac.invalid", "openaerialmap"), releases, pointer, scratch=tmp_path)

    assert (found.lacking, found.departed) == (5, 0)
    assert found.only_counted == "this source cannot list ids cheaply"


def test_copies_lie_in_the_scratch_folder_for_as_long_as_they_are_needed(tmp_path: Path) -> None:
    """The machine's own folder for temporary files may be memory."""
    copies = list[Path]()

    class Noting(FolderStore):
        def get_file(self, key: str, path: Path) -> StoredObject | None:
            copies.append(path)
            return super().get_file(key, path)

    scratch = tmp_path / "scratch"
    releases, pointer = publish_sample(Noting(tmp_path / "store"), tmp_path)

    assert compare(SampleCatalogue(IMAGES), releases, pointer, scratch=scratch)

    assert {each.name for each in copies} == {"footprints.parquet", "set_aside.parquet"}
    assert all(each.is_relative_to(scratch) for each in copies)
    assert not list(scratch.iterdir())
