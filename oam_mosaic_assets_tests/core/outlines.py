"""Outlines of every kind that is hard to cut, for Hypothesis to place on the map."""

from __future__ import annotations

from typing import Final

import numpy as np
import shapely
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

KINDS: Final = ("slanted", "ragged", "holed", "sliver", "comb", "spiked", "islands", "touching")


def outline(kind: str, turn: float, seed: int) -> BaseGeometry:
    """A valid area that extends about one unit from the origin in each direction.

    Args:
        kind: one of `KINDS`.
        turn: radians.
        seed: of everything random.
    """
    chance = np.random.default_rng(seed)
    rings: list[NDArray[np.float64]] = []
    match kind:
        case "slanted":
            rings = [box_ring(1.0, 0.6)]
        case "ragged":
            rings = [star(chance, int(chance.integers(5, 200)))]
        case "holed":
            outer = star(chance, int(chance.integers(8, 60)))
            tiny = 0.9 * outer[:1] + 1e-5 * chance.random() * np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
            rings = [outer, 0.8 * outer, tiny]
        case "sliver":
            rings = [box_ring(1.0, 10 ** chance.uniform(-6, -2))]
        case "comb":
            teeth = int(chance.integers(2, 40))
            across = np.repeat(np.linspace(-1.0, 1.0, 2 * teeth), 2)
            up = np.tile([-0.9, 0.9, 0.9, -0.9], teeth)
            rings = [np.array([*np.column_stack([across, up]).tolist(), [1.0, -1.0], [-1.0, -1.0]])]
        case "spiked":
            rings = [np.array([[-0.5, -0.5], [0.0, -0.5], [1.0, 1.0], [-1e-9, -0.4999], [-0.5, 0.3]])]
        case "islands":
            corners = chance.uniform(-1, 0.8, (12, 2))
            return shapely.union_all(
                shapely.box(*corners.T, *(corners + chance.uniform(0.001, 0.3, (12, 2))).T)
            )
        case "touching":
            corners = np.array([[-1.0, -1.0], [-0.5, -0.5], [0.0, 0.0]])
            return shapely.union_all(shapely.box(*corners.T, *(corners + 0.5).T))
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = [ring @ np.array([[cosine, sine], [-sine, cosine]]) for ring in rings]
    return shapely.make_valid(
        shapely.Polygon(turned[0], turned[1:]), method="structure", keep_collapsed=False
    )


def box_ring(wide: float, high: float) -> NDArray[np.float64]:
    return np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]])


def star(chance: np.random.Generator, corners: int) -> NDArray[np.float64]:
    """A ring around the origin whose corners are at random distances, half a unit to one unit."""
    turns = 2 * np.pi * (np.arange(corners) + chance.uniform(0, 0.5, corners)) / corners
    return chance.uniform(0.5, 1.0, (corners, 1)) * np.column_stack([np.cos(turns), np.sin(turns)])


outlines = st.builds(
    outline,
    st.sampled_from(KINDS),
    st.sampled_from([0.0, np.pi / 4]) | st.floats(0, 2 * np.pi),
    st.integers(0, 2**32 - 1),
)
