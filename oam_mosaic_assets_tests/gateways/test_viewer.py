"""The viewer's page in each kind of store: written once, whole, and public."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.viewer import Viewer, config_of
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.servers.buckets import store_in
from oam_mosaic_assets_tests.servers.s3 import S3Server

KEYS = Keys()
PAGES = {"config.json", "index.html", "licences.txt"}
S3 = {"S3_BUCKET": "a-bucket", "PGHOST": "db"}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<p>first")
    (folder / "licences.txt").write_text("BSD-2-Clause")
    (folder / "assets" / "index-1.js").write_text("1")
    (folder / "assets" / "land.json").write_text("{}")
    return folder


def viewer(store: ObjectStore, folder: Path, **config: str) -> Viewer:
    return Viewer(store, KEYS, folder, config)


def names(store: ObjectStore) -> set[str]:
    return {each.key.removeprefix(KEYS.viewer) for each in store.keys(KEYS.viewer)}


def test_strangers_read_the_page_and_only_what_changed_is_written_again(
    store: ObjectStore, built: Path
) -> None:
    page = viewer(store, built, root="../../")
    assert (page.is_built, page.is_public) == (True, False)
    assert page.publish() == 5
    assert page.is_public
    assert store.read_publicly("mosaic/viewer/index.html") == b"<p>first"
    assert json.loads(store.read_publicly("mosaic/viewer/config.json") or b"") == {"root": "../../"}
    assert store.read_publicly("mosaic/viewer/assets/index-1.js") == b"1"
    head = store.head_publicly("mosaic/viewer/index.html")
    assert head is not None
    assert head.content_type in {None, "text/html"}, "a folder states none"
    assert page.publish() == 0
    assert viewer(store, built, root="../").publish() == 1


def test_browsers_are_told_to_unpack_what_s3_would_not_pack(
    s3_server: S3Server, bucket: str, built: Path
) -> None:
    store = store_in(s3_server, bucket)
    script = "let places = [];\n" * 1000
    (built / "assets" / "index-1.js").write_text(script)
    viewer(store, built).publish()
    answer = requests.get(store.public_address("mosaic/viewer/assets/index-1.js"), timeout=10)
    assert (answer.text, answer.headers["Content-Encoding"]) == (script, "gzip")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert int(answer.headers["Content-Length"]) < len(script) / 10


def test_an_earlier_pages_files_stay_until_the_publication_after(store: ObjectStore, built: Path) -> None:
    viewer(store, built).publish()
    (built / "assets" / "index-1.js").rename(built / "assets" / "index-2.js")
    (built / "index.html").write_text("<p>second")
    viewer(store, built).publish()
    assert {"assets/index-1.js", "assets/index-2.js"} < names(store)
    assert viewer(store, built).publish() == 0
    assert names(store) == {"assets/index-2.js", "assets/land.json"} | PAGES


def test_a_publication_that_was_killed_before_the_page_costs_the_old_page_no_file(
    store: ObjectStore, built: Path
) -> None:
    viewer(store, built).publish()
    (built / "assets" / "index-1.js").rename(built / "assets" / "index-2.js")
    (built / "index.html").write_text("<p>second")
    store.put_file(
        "mosaic/viewer/assets/index-2.js", built / "assets" / "index-2.js", Headers("text/javascript")
    )
    viewer(store, built).publish()
    assert {"assets/index-1.js", "assets/index-2.js"} < names(store)
    assert viewer(store, built).publish() == 0
    assert "assets/index-1.js" not in names(store)


def test_what_else_lies_in_its_folder_stays_private(store: ObjectStore, built: Path) -> None:
    for other in (".env", "package.json", "node_modules/vite/index.js", "assets/node_modules/vite.js"):
        (built / other).parent.mkdir(parents=True, exist_ok=True)
        (built / other).write_text("PGPASSWORD=secret")
    viewer(store, built).publish()
    assert names(store) == {"assets/index-1.js", "assets/land.json"} | PAGES


def test_a_page_that_was_not_built_is_none(store: ObjectStore, built: Path) -> None:
    sources = built.parent
    (sources / "index.html").write_text("<script src=src/main.ts>")
    assert not viewer(store, sources).is_built
    assert not viewer(store, sources / "nothing").is_built


def test_the_page_finds_the_store_from_where_it_lies() -> None:
    config = config_of(Settings.read({"TEST_MODE": "1", "PGHOST": "db", "MOSAIC_PREFIX": "a/b"}), None)
    assert config["root"] == "../" * 4
    assert config["pointer"] == "test/a/b/latest.json"
    assert config["archive"] == "test/global-mosaic.pmtiles"


def test_the_page_names_the_tile_servers_that_are_set() -> None:
    local = config_of(Settings.read({}), None)
    assert local["raster_tiles"] == "http://127.0.0.1:8084/{z}/{x}/{y}.png"
    assert local["vector_tiles"] == "http://127.0.0.1:3004/global-mosaic/{z}/{x}/{y}"
    assert local["stac_item"] is None, "no catalogue holds the sample"
    elsewhere = config_of(Settings.read({"SERVE_ADDRESS": "2001:db8::5"}), None)
    assert elsewhere["raster_tiles"] == "http://[2001:db8::5]:8084/{z}/{x}/{y}.png"
    assert elsewhere["vector_tiles"] == "http://[2001:db8::5]:3004/global-mosaic/{z}/{x}/{y}"
    public = config_of(Settings.read(S3), "https://bucket.example.org/")
    assert public["raster_tiles"] is None
    assert public["public"] == "https://bucket.example.org/"
    named = config_of(Settings.read({**S3, "SERVE_RASTER_URL": "https://tiles.example.org/"}), None)
    assert named["raster_tiles"] == "https://tiles.example.org/{z}/{x}/{y}.png"


def test_the_page_knows_the_zooms_that_are_set() -> None:
    config = config_of(Settings.read({"ZOOM_MIN": "5", "ZOOM_MAX": "12"}), None)
    assert (config["zoom_min"], config["zoom_max"]) == (5, 12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVE_RASTER_URL", "tiles.example.org"),
        ("SERVE_VECTOR_URL", "https://user:word@tiles.example.org"),
        ("STAC_ITEM_URL", "https://stac.example.org/items/"),
        ("PREVIEW_URL", "javascript:alert({id})"),
    ],
)
def test_an_address_that_is_none_is_refused(name: str, value: str) -> None:
    with pytest.raises(Exception, match=name):
        Settings.read({name: value})
