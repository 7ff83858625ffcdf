"""How a tile service should render an image: the STAC render extension as a TiTiler query.

Sources: the render extension 1.0 (`renders` of an item's properties or of an asset), TiTiler's parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

LONGEST: Final = 2048
"""Characters; longer URLs do not work everywhere, so a `colormap` that makes one longer is left out."""


def render_query(item: Mapping[str, Any], asset_name: str | None, unknown: list[str]) -> str | None:
    """The query, such as `bidx=1&rescale=0,3000&nodata=0`; None if the item states none that can be used.

    Args:
        item: the whole STAC item. Anything may be wrong with it.
        asset_name: the image's asset; renderings of other assets are ignored.
        unknown: receives what could not be read.
    """
    render = _of_asset(item, asset_name)
    if render is None:
        return None
    try:
        stated = list(_parameters(render))
    except (TypeError, ValueError, LookupError, ArithmeticError):
        unknown.append("renders: unreadable")
        return None
    query = urlencode(stated, safe=",")
    if len(query) > LONGEST:  # a colour table of more than some sixty classes
        unknown.append("renders: too long")
        query = urlencode([each for each in stated if each[0] != "colormap"], safe=",")
    return query if 0 < len(query) <= LONGEST else None


def _of_asset(item: Mapping[str, Any], asset_name: str | None) -> Mapping[str, Any] | None:
    """The asset's own rendering, else the item's rendering named after it, else the first that shows it."""
    properties, assets = item.get("properties"), item.get("assets")
    asset = assets.get(asset_name) if isinstance(assets, Mapping) else None
    for place in (asset, properties, item):
        stated = place.get("renders") if isinstance(place, Mapping) else None
        renders = dict(stated) if isinstance(stated, Mapping) else {}
        named = [renders[asset_name]] if asset_name in renders else []
        for each in (*named, *renders.values()):
            if isinstance(each, Mapping) and each.get("assets", [asset_name]) == [asset_name]:
                return each
    return None


def _parameters(render: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of each parameter. Raises various errors if one is malformed."""
    for band in render.get("bidx") or ():
        yield "bidx", str(_whole(band))
    ranges = render.get("rescale") or ()
    for each in [ranges] if ranges and not isinstance(ranges[0], list) else ranges:
        low, high = map(_number, each)
        yield "rescale", f"{low},{high}"
    if name := render.get("colormap_name"):
        if not isinstance(name, str) or not name.isascii() or not name.isprintable():
            raise ValueError("not the name of a colour map")
        yield "colormap_name", name
    if colormap := render.get("colormap"):
        if not isinstance(colormap, Mapping | list):
            raise TypeError("not a colour map")
        yield "colormap", json.dumps(colormap, separators=(",", ":"), allow_nan=False)
    if (nodata := render.get("nodata")) is not None:
        yield "nodata", "nan" if isinstance(nodata, str) and nodata.lower() == "nan" else _number(nodata)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError("not the number of a band")
    return value


def _number(value: object) -> str:
    """A number in its shortest form: `0`, not `0.0`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError("not a number")
    return str(int(value)) if value == int(value) else repr(value)
