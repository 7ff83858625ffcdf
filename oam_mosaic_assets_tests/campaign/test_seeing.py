"""The campaign itself: it fails where it does nothing, or does not see what it looks for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import pytest

from oam_mosaic_assets.core.product import PMTILES
from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets_tests.campaign.__main__ import main
from oam_mosaic_assets_tests.campaign.builds import Ended
from oam_mosaic_assets_tests.campaign.injection import Injection, ends
from oam_mosaic_assets_tests.campaign.reader import Reader
from oam_mosaic_assets_tests.campaign.run import Result, _inject
from oam_mosaic_assets_tests.servers.buckets import new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.tiles import release

KEYS: Final = Keys()
BUILD: Final = "20260115T030000Z-3f9c2a7d41be"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--only", "Typo"], "no injection has 'Typo' in its name"),
        (["--only", "SIGTERM", "--only", "Typo"], "no injection has 'Typo' in its name"),
        (["--lanes", "0"], "--lanes must be at least 1"),
    ],
)
def test_a_campaign_that_would_inject_nothing_is_wrong_usage(
    asked: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/faults", *asked])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {said}\n")


def test_a_reader_that_is_refused_by_the_store_reads_on_and_says_so(ceph: CephServer, tmp_path: Path) -> None:
    bucket = new_bucket(ceph)
    store = store_in(ceph, bucket)
    archive = tmp_path / "archive"
    archive.write_bytes(b"an archive of no known build")
    pointer = release(store, BUILD, archive)
    public = Headers(PMTILES)
    store.put_file(KEYS.archive, archive, public, public=True)
    manifest = json.dumps({"archive": {"sha256": pointer.sha256}}).encode()
    store.put_bytes(pointer.manifest, manifest, public, public=True)

    refused = store_in(ceph, bucket, secret_key="another")
    found = found_by(Reader(f"{ceph.endpoint}/{bucket}", refused, KEYS))

    assert all(each.startswith("StoreRefused: ") for each in found)


def test_a_reader_says_what_it_is_denied_and_that_nobody_answers(ceph: CephServer) -> None:
    bucket = new_bucket(ceph)
    store = store_in(ceph, bucket)
    denied = found_by(Reader(f"{ceph.endpoint}/{bucket}", store, KEYS))
    assert all(each.startswith("RuntimeError: mosaic/latest.json: 403 ") for each in denied)
    silent = found_by(Reader(f"http://127.0.0.1:{free_port()}", store, KEYS))
    assert all("Connection refused" in each for each in silent)


def found_by(reader: Reader) -> list[str]:
    """What is wrong in each of at least two reads."""
    with reader.reading():
        deadline = time.monotonic() + 30
        while reader.reads < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(reader.invalid) == reader.reads >= 2
    return reader.invalid


def injected(reader: Reader, *, reads: int) -> Result:
    """An injection, and a build after it, that end as they must, while the reader reads this often."""
    lane: Any = Mock()
    lane.left_behind.return_value = []
    lane.is_whole.return_value.images = 1

    def built() -> Ended:
        reader.reads += reads
        return Ended("0", "Published")

    lane.start.return_value.wait = built
    return _inject(lane, reader, Injection("a", "b", ends(0), lambda _: Ended("0", "Published")))


def test_a_campaign_in_which_nobody_reads_is_not_as_it_must_be() -> None:
    reader = Reader("http://127.0.0.1:1", Mock(), KEYS)
    assert injected(reader, reads=1).problems == []
    assert injected(reader, reads=0).problems == ["nobody read anything meanwhile"]
