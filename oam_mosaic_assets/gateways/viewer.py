"""The viewer's page beside the archive: what `scripts/build-viewer` made, and the addresses it needs.

Files below `assets/` are named after their content and never change; browsers revalidate the others. Assets
are packed where readers can be told so, since S3 packs nothing on the way: a phone gets a third of the bytes.
Those of an earlier page are deleted by the publication after the one that replaced it, so that nobody who is
just opening that page misses them.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from oam_mosaic_assets.core.product import DETAILS, EXACT, IMAGERY
from oam_mosaic_assets.core.release import Keys, as_json
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.public_keys import FIXED_CACHING
from oam_mosaic_assets.settings import Settings

INDEX: Final = "index.html"
LICENCES: Final = "licences.txt"
CONFIG: Final = "config.json"
ASSETS: Final = "assets/"
ASSET_CACHING: Final = "public, max-age=31536000, immutable"

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Viewer:
    """The page, built or not, and where it is published.

    Args:
        folder: the output of `scripts/build-viewer`; may be missing.
        config: the page's configuration, as `config_of` makes it.
    """

    def __init__(self, store: ObjectStore, keys: Keys, folder: Path, config: Mapping[str, Any]) -> None:
        self._store = store
        self._keys = keys
        self._folder = folder
        self._config = as_json(config)

    @property
    def is_built(self) -> bool:
        """Whether there is a page to publish: the folder of its sources has an index.html, too."""
        return (self._folder / INDEX).is_file() and (self._folder / ASSETS).is_dir()

    @property
    def is_public(self) -> bool:
        """Whether the public finds a page, from this publication or an earlier one.

        Raises: as `ObjectStore`.
        """
        return self._store.head_publicly(self._key(INDEX)) is not None

    def address(self, build: str = "") -> str:
        """The page's address, showing one build or whatever is public."""
        address = self._store.public_address(self._key(INDEX))
        return f"{address}?build={build}" if build else address

    def publish(self) -> int:
        """Write what is new or changed, the page itself last; returns how many files were written.

        Whatever else lies in the folder is not part of a page and stays private.

        Raises: as `ObjectStore`.
        """
        encoding = "gzip" if self._store.keeps_headers else None
        assets = {
            f"{ASSETS}{path.name}": _packed(path.read_bytes()) if encoding else path.read_bytes()
            for path in (self._folder / ASSETS).iterdir()
            if path.is_file()
        }
        there = {found.key: found.size for found in self._store.keys(self._key(ASSETS))}
        written = 0
        for name, content in sorted(assets.items()):
            if there.get(self._key(name)) != len(content):
                headers = Headers(_type_of(name), ASSET_CACHING, encoding)
                self._store.put_bytes(self._key(name), content, headers, public=True)
                written += 1
        pages = {name: (self._folder / name).read_bytes() for name in (INDEX, LICENCES)}
        pages[CONFIG] = self._config
        stored = {name: self._store.get_bytes(self._key(name)) for name in pages}
        before = {name: found[0] for name, found in stored.items() if found}
        if not written and before.get(INDEX) == pages[INDEX]:  # public since an earlier publication
            self._store.delete(there.keys() - {self._key(name) for name in assets})
        for name in sorted(pages, key=lambda name: name == INDEX):
            if before.get(name) != pages[name]:
                headers = Headers(_type_of(name), FIXED_CACHING)
                self._store.put_bytes(self._key(name), pages[name], headers, public=True)
                written += 1
        return written

    def _key(self, name: str) -> str:
        return f"{self._keys.viewer}{name}"


def config_of(settings: Settings, public_base: str | None) -> dict[str, Any]:
    """The page's configuration; addresses in this store are as seen from the page.

    Args:
        public_base: the store's public address; None if it is wherever the page is served from.
    """
    keys = settings.keys
    vector, raster = settings.serve_vector_url, settings.serve_raster_url
    if not settings.publishes_to_s3:  # a folder is served by the tile server alone
        vector, raster = vector or settings.serve_origins[0], raster or settings.serve_origins[1]
    is_sample = settings.source == "sample"  # no catalogue holds its images
    return {
        "root": "../" * keys.viewer.count("/"),
        "public": public_base,
        "pointer": keys.pointer,
        "builds": keys.releases_root,
        "archive": keys.archive,
        "tilejson": keys.tilejson,
        "details": DETAILS.name,
        "coverage": EXACT.name,
        "imagery": IMAGERY.name,
        "coverage_archive": keys.fixed(EXACT.name)[0],
        "imagery_archive": keys.fixed(IMAGERY.name)[0],
        "vector_tiles": _template(vector, "/global-mosaic/{z}/{x}/{y}"),
        "raster_tiles": _template(raster, "/{z}/{x}/{y}.png"),
        "raster_shows": settings.serve_raster,
        "stac_item": None if is_sample else settings.stac_item_url,
        "preview": None if is_sample else settings.preview_url,
        "zoom_min": settings.zoom_min,
        "zoom_max": settings.zoom_max,
        "fresh_warn_hours": settings.fresh_warn_hours,
        "fresh_fail_hours": settings.fresh_fail_hours,
    }


def _template(base: str | None, path: str) -> str | None:
    return base.rstrip("/") + path if base else None


def _packed(asset: bytes) -> bytes:
    # each publication does it to compare sizes: the best level takes twice the time, and saves a hundredth
    return gzip.compress(asset, compresslevel=6, mtime=0)


def _type_of(name: str) -> str:
    return TYPES.get(Path(name).suffix, "application/octet-stream")
