"""Whether a file names an image: archive tiles are inflated, Parquet is read, the rest is searched as text.

An id is opaque and may be a single letter. So only an exact match counts: the value of a property, a table
cell, or a quoted string. Another image may have it as its title, so in what builds wrote only ids count.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection
from io import BufferedIOBase
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from oam_mosaic_assets.core.archive import Archive, BrokenArchive, is_vector, open_archive
from oam_mosaic_assets.core.footprint import NAMELESS
from oam_mosaic_assets.core.snapshot import SET_ASIDE_SCHEMA
from oam_mosaic_assets.core.vector_tile import BrokenTile, Layer, read_feature, read_layers

ID_FIELDS: Final = ("id", "_id")
"""Where builds write the ids of images: columns of tables, properties of features."""

_NOT_INFLATED: Final = (gzip.BadGzipFile, zlib.error, EOFError)
"""What reading a damaged gzip file raises."""

BLOCK_BYTES: Final = 2**20
"""How much text is searched at a time: a foreign file may be large, and all on one line."""


def names_any(path: Path, ids: Collection[str], *, is_ours: bool = False) -> bool | None:
    """Whether the file names any of these images; None if nothing tells, as it cannot be read.

    Args:
        path: a file of any kind, recognised by its first bytes.
        ids: ids of the images.
        is_ours: whether a build wrote it. Of a table or an archive, only `ID_FIELDS` are searched then: other
            texts are what a catalogue says, and those in the metadata are the same in all builds. Rows set
            aside that are no items are searched as text.
    """
    with path.open("rb") as content:
        head = content.read(8)
    try:
        if head.startswith(b"PMTiles"):
            with open_archive(path) as archive:
                return _archive_names(archive, frozenset(ids), is_ours=is_ours)
        if head.startswith(b"PAR1"):
            return _table_names(path, ids, is_ours=is_ours)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as content:
                return _text_names(content, ids)
    except (BrokenArchive, pl.exceptions.PolarsError, pl.exceptions.PanicException, *_NOT_INFLATED):
        with path.open("rb") as content:  # what is not compressed may name one
            return _text_names(content, ids) or None
    with path.open("rb") as content:
        return _text_names(content, ids)


def text_names_any(text: str, ids: Collection[str]) -> bool:
    """Whether the text names any of these images."""
    return text in ids or any(each in text.encode(errors="replace") for each in _quoted(ids))


def _archive_names(archive: Archive, ids: frozenset[str], *, is_ours: bool) -> bool:
    metadata = json.dumps(archive.metadata, ensure_ascii=False).encode()
    if not is_ours and any(each in metadata for each in _quoted(ids)):
        return True
    if not is_vector(archive):
        return False
    for directory in archive.directories():
        some = directory[np.sort(directory.distinct())]  # equal tiles are stored once
        columns = (some.tile_id, some.offset, some.length)
        for tile_id, offset, length in zip(*(each.tolist() for each in columns), strict=True):
            if _tile_names(archive.tile(tile_id, offset, length), ids, is_ours=is_ours):
                return True
    return False


def _tile_names(tile: bytes, ids: frozenset[str], *, is_ours: bool) -> bool:
    try:
        found = [layer for layer in read_layers(tile) if not ids.isdisjoint(layer.values)]
        return any(_layer_draws(layer, ids) for layer in found) if is_ours else bool(found)
    except BrokenTile:
        return any(each.encode() in tile for each in ids)


def _layer_draws(layer: Layer, ids: frozenset[str]) -> bool:
    drawn = (read_feature(layer, each).properties for each in layer.features)
    return any(not ids.isdisjoint(map(properties.get, ID_FIELDS)) for properties in drawn)


def _table_names(path: Path, ids: Collection[str], *, is_ours: bool) -> bool:
    table = pl.scan_parquet(path, glob=False)
    schema = table.collect_schema()
    texts = [name for name, kind in schema.items() if kind == pl.String()]
    if is_ours:
        texts = [name for name in texts if name in ID_FIELDS]
    if not texts:
        return False
    named = pl.any_horizontal(pl.col(texts).is_in(list(ids)))
    if is_ours and schema == SET_ASIDE_SCHEMA:
        # a row without an id goes by its position, and what is no item may quote one
        reason, quoted = pl.col("reason"), [each.decode() for each in _quoted(ids)]
        named &= ~reason.is_in(NAMELESS)
        named |= (reason == "not_an_item") & pl.col("value").str.contains_any(quoted)
    return bool(table.select(named.any()).collect(engine="streaming").item())


def _text_names(content: BufferedIOBase, ids: Collection[str]) -> bool:
    wanted = _quoted(ids)
    longest = max(map(len, wanted), default=1)
    text = b""
    while block := content.read(BLOCK_BYTES):
        text = text[-longest:] + block  # the end of the last one, as what is wanted may lie across both
        if any(each in text for each in wanted):
            return True
    return False


def _quoted(ids: Collection[str]) -> set[bytes]:
    """The ids in quotes, as JSON and as Python write them."""
    return {
        written.encode()
        for each in ids
        for written in (json.dumps(each), json.dumps(each, ensure_ascii=False), repr(each))
    }
