"""How long caches may keep each public object, as docs/contract.md promises."""

from __future__ import annotations

import re
from pathlib import Path

import requests

from oam_mosaic_assets.core.product import PRODUCTS
from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.viewer import Viewer
from oam_mosaic_assets_tests.gateways.two_products import built
from oam_mosaic_assets_tests.servers.buckets import store_in
from oam_mosaic_assets_tests.servers.s3 import S3Server

CONTRACT = Path(__file__).parents[2] / "docs" / "contract.md"
CACHING = {
    "a minute, then revalidate": "public, max-age=60, must-revalidate",
    "a day, immutable": "public, max-age=86400, immutable",
    "a year, immutable": "public, max-age=31536000, immutable",
}


def promised(**names: str) -> dict[str, str]:
    """The `Cache-Control` of each key in the contract's table.

    Args:
        names: what is in the store in place of words that stand for it.
    """
    table = CONTRACT.read_text().partition("| key |")[2].partition("\n\n")[0].splitlines()[2:]
    found, caching = dict[str, str](), ""
    for row in table:
        shown, *_, words = row.strip("| ").split(" | ")
        caching = caching if words == "the same" else CACHING[words]
        first, *others = re.findall("`(.+?)`", shown)
        for key in (first, *others):
            whole = first.rpartition(key[1])[0] + key[1:] if key.startswith("…") else key
            found[re.sub("MOSAIC_ALIASES|<build>|…", lambda word: names[word[0]], whole)] = caching
    return found


def test_each_public_object_may_be_kept_as_long_as_the_contract_says(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    store, keys = store_in(s3_server, bucket), Keys(products=PRODUCTS, aliases=("old.pmtiles",))
    (tmp_path / "assets").mkdir()
    for name in ("index.html", "licences.txt", "assets/index-1.js"):
        (tmp_path / name).write_text("1")
    releases = Releases(store, keys, patience_seconds=0.0)
    build = releases.publish(built(releases, "a", *PRODUCTS)).build
    Viewer(store, keys, tmp_path, {}).publish()

    answers = {each.key: requests.head(store.public_address(each.key), timeout=10) for each in store.keys("")}
    seen = {key: each.headers["Cache-Control"] for key, each in answers.items() if each.ok}
    assert seen == promised(**{"MOSAIC_ALIASES": "old.pmtiles", "<build>": build, "…": "index-1.js"})
