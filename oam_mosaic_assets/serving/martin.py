"""Martin's configuration, and its TileJSON, corrected for clients.

Martin reads archives as any outsider does: at their public addresses, or as files. It is given no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from oam_mosaic_assets.core.release import as_json

VECTOR: Final = "globalcoverage"
"""Martin's name for the mosaic; the addresses that clients know begin with it."""

RASTER: Final = "raster"
"""Martin's name for the pictures: the raster coverage, or the imagery."""

CACHE_MB: Final = 128
"""A quarter of it goes to directories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a release's archives are read from.

    Attributes:
        build: the build's name.
        vector: address of the mosaic, `https://`, `http://` or `file://`.
        raster: address of the pictures; None where the release has none.
        is_imagery: whether the pictures are the imagery rather than the coverage.
    """

    build: str
    vector: str
    raster: str | None
    is_imagery: bool = False


def martin_configuration(sources: Sources, *, port: int) -> bytes:
    """Martin's configuration file, as JSON, which is valid YAML.

    Args:
        sources: what is served.
        port: on the loopback interface.
    """
    archives = {VECTOR: sources.vector} | ({RASTER: sources.raster} if sources.raster else {})
    return as_json(
        {
            "listen_addresses": f"127.0.0.1:{port}",
            "worker_processes": 2,
            "cors": False,
            "on_invalid": "abort",
            # nginx keeps tiles, and a tile from memory would hide an archive that cannot be read
            "cache": {"size_mb": CACHE_MB, "tile_size_mb": 0},
            "pmtiles": {
                "allow_http": any(address.startswith("http://") for address in archives.values()),
                # Martin takes addresses at Amazon for those of a bucket: ask without a key
                "skip_signature": True,
                "reload_interval": "0s",
                "sources": {name: _as_martin_names(address) for name, address in archives.items()},
            },
        }
    )


def _as_martin_names(address: str) -> str:
    parts = urlsplit(address)
    return unquote(parts.path) if parts.scheme == "file" else address


def mended_tilejson(
    stated: Mapping[str, Any], *, build: str, tiles: str, kind: str | None = None
) -> dict[str, Any]:
    """TileJSON 3.0.0 as clients need it; Martin's own derives the tile address from the request.

    Args:
        stated: Martin's TileJSON.
        build: the build's name, so that a client sees which mosaic it shows.
        tiles: the tiles' public address template.
        kind: the tiles' format, unless they are vector tiles.
    """
    known = ("name", "description", "attribution", "bounds", "center")
    described = {name: stated[name] for name in known if name in stated}
    return {
        "tilejson": "3.0.0",
        **described,
        "version": "1.0.0",
        "scheme": "xyz",
        "tiles": [tiles],
        "minzoom": int(stated["minzoom"]),
        "maxzoom": int(stated["maxzoom"]),
        "vector_layers": stated.get("vector_layers", []),
        **({"format": kind} if kind else {}),
        "build": build,
    }
