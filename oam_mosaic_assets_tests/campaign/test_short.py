"""Some of the campaign's faults; `scripts/faults` injects all of them."""

from __future__ import annotations

from collections import Counter

from oam_mosaic_assets_tests.campaign.injections import INJECTIONS
from oam_mosaic_assets_tests.campaign.run import run
from oam_mosaic_assets_tests.servers.ceph import CephServer


def test_the_public_mosaic_survives_some_faults(ceph: CephServer) -> None:
    results = run(ceph, [each for each in INJECTIONS if each.short], lanes=2, tell=lambda *_: None)

    assert len(results) == 5  # each takes two builds; what else may stop one is tested in `faults`
    for each in results:
        assert not each.problems, each.line
        assert each.reads > 10


def test_no_injection_is_named_as_another() -> None:
    names = Counter((each.name, each.by_dagster) for each in INJECTIONS)
    assert [name for name, count in names.items() if count > 1] == []
