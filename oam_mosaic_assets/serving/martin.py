"""Martin's configuration, and what it says of an archive, mended.

Martin reads archives as any stranger does: over their public addresses, or as files. It is given no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from oam_mosaic_assets.core.release import as_json

VECTOR: Final = "globalcoverage"
"""Martin's name of the mosaic; clients know the addresses that begin with it."""

RASTER: Final = "raster"
"""Martin's name of the pictures: the raster coverage, or the imagery."""

CACHE_MB: Final = 128
"""Half of it for tiles, which nginx keeps for longer; a quarter for directories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a release's archives are read.

    Attributes:
        build: the build's name.
        vector: address of the mosaic, `https://`, `http://` or `file://`.
        raster: address of the pictures; None where the release has none.
        is_imagery: whether they are the imagery, not the coverage.
    """

    build: str
    vector: str
    raster: str | None
    is_imagery: bool = False


def martin_configuration(sources: Sources, *, port: int) -> bytes:
    """Martin's configuration file; JSON is YAML.

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
            "cache": {"size_mb": CACHE_MB},
            "pmtiles": {
                "allow_http": any(address.startswith("http://") for address in archives.values()),
                # of addresses at Amazon, which it takes for a bucket's: ask without a key
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
    """TileJSON 3.0.0 as clients need it, from Martin's, which takes its tiles' address from whoever asks.

    Args:
        stated: Martin's.
        build: the build's name, so that a client sees which mosaic it shows.
        tiles: the tiles' address from outside.
        kind: the tiles' format, where it is no vector.
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
