"""How builds get their names, on every store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from oam_mosaic_assets.core.release import ARCHIVE, Keys
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.releases import Releases

STARTED = datetime(2026, 1, 15, 3, tzinfo=UTC)
DIGEST = "3f9c2a7d41be" + "0" * 52


def test_builds_of_one_snapshot_that_begin_in_one_second_have_names_of_their_own(store: ObjectStore) -> None:
    releases = Releases(store, Keys())

    def name(run: int) -> str:
        return releases.staged.name_build(STARTED, DIGEST, run=str(run))

    with ThreadPoolExecutor(4) as runs:
        names = list(runs.map(name, range(4)))

    assert sorted(names) == [f"20260115T03000{second}Z-3f9c2a7d41be" for second in range(4)]
    assert [releases.staged.named_by(str(run)) for run in range(4)] == [[name] for name in names]
    for each in names:
        releases.staged.discard(each)
    assert list(store.keys("")) == []


def test_the_name_of_a_public_build_is_not_given_again(store: ObjectStore) -> None:
    releases = Releases(store, Keys())
    build = releases.staged.name_build(STARTED, DIGEST, run="first")
    store.put_bytes(releases.keys.release(build, ARCHIVE), b"public", Headers("text/plain"))
    releases.staged.discard(build)

    second = releases.staged.name_build(STARTED, DIGEST, run="second")

    assert second > build
    assert releases.staged.named_by("second") == [second]
