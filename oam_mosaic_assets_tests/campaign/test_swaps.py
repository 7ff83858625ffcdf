"""Readers during a few publications; `scripts/swaps` publishes a hundred times."""

from __future__ import annotations

from oam_mosaic_assets_tests.campaign.swaps import install_readers, problems_of, swap
from oam_mosaic_assets_tests.servers.ceph import CephServer


def test_nothing_goes_wrong_at_the_address_of_a_release(ceph: CephServer) -> None:
    install_readers()

    met = swap(ceph, publications=5)

    assert len(met) == 6
    assert problems_of(met) == []
