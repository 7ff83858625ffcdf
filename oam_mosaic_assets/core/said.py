"""The properties of images: read from tiles, and compared with the footprints."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.core.vector_tile import BrokenTile, Layer, kind_of, value_of

Said = Mapping[str, int]
"""A hash of each image's properties, by id."""


def said_of(footprints: Path, plan: TilingPlan, names: Collection[str]) -> Said:
    """Hashes of the properties of some images; empty if images have no property but their name.

    Args:
        footprints: the GeoParquet of all images.
        plan: which properties they have.
        names: ids of the images that are wanted.
    """
    if len(plan.properties) == 1:
        return {}
    wanted = pl.Series(list(names), dtype=pl.String()).implode()
    return {
        row["id"]: _in_short(plan.properties_of(row))
        for batch in read_batches(footprints, plan.columns)
        for row in batch.filter(pl.col("id").is_in(wanted)).iter_rows(named=True)
    }


def names_in(layer: Layer, fields: Mapping[str, str], said: Said) -> list[str | int | None]:
    """What each feature of a layer shows, in drawing order: an image's name, or how many it counts.

    Args:
        layer: the layer; each feature has these properties, or only a `count`.
        fields: `String` or `Number` for each property, by name; the first one names the image.
        said: hashes of the images to compare.

    Raises:
        BrokenTile: a feature is malformed, a property is of the wrong kind, or one of these images has other
            properties.
    """
    keys = list(layer.keys)
    name, *_ = fields
    named, counted = (keys.index(each) if each in keys else -1 for each in (name, "count"))
    features = [_stated(feature.tags) for feature in layer.features]
    if not all(named in each or each.keys() == {counted} for each in features):
        raise BrokenTile(f"a feature has no {name}")
    kinds = {**fields, "count": "Number"}
    for key, value in set().union(*(each.items() for each in features)):
        if key >= len(keys) or value >= len(layer.values):
            raise BrokenTile("a feature has a property that its layer does not have")
        # most are text, which is decoded already
        is_text = isinstance(layer.values[value], str)
        kind, asked = "String" if is_text else kind_of(layer.stated[value]), kinds[keys[key]]
        if kind != asked:
            raise BrokenTile(f"{keys[key]} is {kind or 'nothing'}, not {asked}")
    shown = [layer.values[each[named] if named in each else each[counted]] for each in features]
    for image, each in zip(shown, features, strict=True):
        if image in said and said[str(image)] != _in_short(_properties(layer, each)):
            raise BrokenTile(f"the properties of {image!r} are not those in the footprints")
    return shown


def _stated(tags: Sequence[int]) -> dict[int, int]:
    """The values of a feature's properties, by key; both as indices into the layer."""
    stated = dict(zip(tags[::2], tags[1::2], strict=False))
    if 2 * len(stated) != len(tags):
        raise BrokenTile("a feature has a property twice, or a key without a value")
    return stated


def _properties(layer: Layer, stated: Mapping[int, int]) -> dict[str, Any]:
    return {layer.keys[key]: value_of(layer.stated[value]) for key, value in stated.items()}


def _in_short(properties: Mapping[str, Any]) -> int:
    """A hash of an image's properties; unlike Python's own, another process computes the same.

    Numbers are compared as doubles, as readers know no others.
    """
    stated = [
        (key, each if isinstance(each := properties[key], str) else float(each) + 0.0)  # -0.0 is 0.0
        for key in sorted(properties)
    ]
    return int.from_bytes(blake2b(repr(stated).encode(), digest_size=8).digest())
