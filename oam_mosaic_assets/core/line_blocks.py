"""Index of the GeoJSON lines that reach each block of the map, so that drawing a block reads only these.

A block is a tile of a middle zoom, buffer included, and is identified by its PMTiles id.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Final, Self

import numpy as np
import shapely

from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import Geometries, on_both_sides, project_mended, tile_ids, tiles_between
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import BUFFER, DEEPEST

BLOCK: Final = 10
"""The zoom whose tiles are blocks."""

_TOGETHER: Final = 2048
"""Lines read in one batch."""

_SOME: Final = 512
"""Approximate number of lines that reach a group's blocks; a block reached by more is a group of its own."""

_LIMITED: Final = re.compile(rb'\{"type":"Feature","tippecanoe":\{"minzoom":\d+,"maxzoom":(\d+)\}')
"""How a line begins that is not drawn at all zooms."""


@dataclass(frozen=True, slots=True, eq=False)
class LineBlocks:
    """Pairs of a block and a line that reaches it, sorted by block, then by the line's place in the file.

    Attributes:
        block: id of each pair's block.
        begin: offset of its line in the file, bytes.
        length: length of its line, bytes.
    """

    block: Numbers
    begin: Numbers
    length: Numbers

    @classmethod
    def of(cls, lines: Path, wanted: Stretches, first: int = 0) -> Self:
        """Find which blocks each line of a file reaches.

        Args:
            lines: GeoJSON as tippecanoe reads it; see `write_geojson`.
            wanted: the blocks to index; others are left out.
            first: the first zoom that matters; lines that are drawn only before it are left out.
        """
        pairs, start = [np.zeros((3, 0), np.int64)], 0
        with lines.open("rb") as content:
            while some := list(islice(content, _TOGETHER)):
                length = np.array([len(each) for each in some], np.int64)
                begin = start + np.cumsum(length) - length
                start += int(length.sum())
                drawn = np.flatnonzero([_last_zoom(each) >= first for each in some])
                parts, of = parts_of([some[each] for each in drawn])
                line, block = blocks_of(parts, drawn[of])
                held = wanted.hold(block)
                # several parts of a line's image may reach the same block
                line, block = np.unique(np.column_stack([line, block])[held], axis=0).T
                pairs.append(np.stack([block, begin[line], length[line]]))
        whole = np.concatenate(pairs, axis=1)
        return cls(*whole[:, np.argsort(whole[0], kind="stable")])

    def groups(self, share: int = 0, of: int = 1) -> Iterator[tuple[Numbers, list[tuple[int, int]]]]:
        """Groups of neighbouring blocks, each with the places of the lines that reach it, in file order.

        Args:
            share: which share of all groups to yield, counted from 0.
            of: number of shares. Groups are dealt out in turn; as neighbours are alike, so are the shares.
        """
        bounds = self._bounds()
        for first, after in islice(pairwise(bounds.tolist()), share, None, of):
            places = np.unique(np.column_stack([self.begin[first:after], self.length[first:after]]), axis=0)
            yield np.unique(self.block[first:after]), list(map(tuple, places.tolist()))

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._bounds()) - 1

    def _bounds(self) -> Numbers:
        """Where each group begins and the last one ends. A block reached by many lines is its own group."""
        firsts = np.flatnonzero(np.diff(self.block, prepend=-1))
        lines = np.diff(firsts, append=len(self.block))
        is_large = lines > _SOME
        begins = np.diff(firsts // _SOME, prepend=-1) != 0
        begins |= is_large | np.append(False, is_large[:-1])[: len(is_large)]
        return np.append(firsts[begins], len(self.block))

    @staticmethod
    def read(descriptor: int, place: tuple[int, int]) -> bytes:
        """Read the line at a place of the file: its offset and length."""
        begin, length = place
        return os.pread(descriptor, length, begin)


def _last_zoom(line: bytes) -> int:
    limited = _LIMITED.match(line)
    return int(limited[1]) if limited else DEEPEST


def parts_of(lines: list[bytes]) -> tuple[Geometries, Numbers]:
    """The polygons of GeoJSON features in tile coordinates of zoom 0, and the index of each one's line.

    All are valid and none is empty; polygons near the antimeridian appear on both sides of the map.
    """
    areas = project_mended(shapely.from_geojson([each.decode() for each in lines]), 0)
    parts, of = shapely.get_parts(areas, return_index=True)
    solid = ~shapely.is_empty(parts)
    return on_both_sides(parts[solid], of[solid], BUFFER / 2**BLOCK)


def blocks_of(parts: Geometries, of: Numbers) -> tuple[Numbers, Numbers]:
    """Pairs of a part's number in `of` and a block, buffer included, that its bounding box reaches."""
    frames = shapely.bounds(parts) * 2.0**BLOCK + np.array([-1, -1, 1, 1]) * BUFFER
    frames = np.clip(np.floor(frames) + np.array([0, 0, 1, 1]), 0, 2**BLOCK)
    west, north, east, south = frames.astype(np.int64).T
    there = (west < east) & (north < south)
    which, x, y = tiles_between(west[there], north[there], east[there], south[there])
    return of[there][which], tile_ids(BLOCK, x, y)
