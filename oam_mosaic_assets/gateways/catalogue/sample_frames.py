"""How the sample's campaigns lay out their images on the ground: layouts in metres, outlines in degrees.

Everything is derived from one generator's numbers by arithmetic that is the same on every machine and Python.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Final, TypeVar

T = TypeVar("T")

Ring = list[list[float]]
"""Longitude, latitude in degrees (EPSG:4326), closed, counterclockwise."""

Outline = Sequence[tuple[float, float]]
"""Corners of a shape in the square from -0.5 to 0.5, counterclockwise, not closed."""

RECTANGLE: Final[Outline] = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))

METRES_PER_DEGREE: Final = 111_320.0
"""Of latitude, and of longitude on the equator."""

_STEPS_PER_DEGREE: Final = 10_000_000.0
"""Coordinates are rounded to a centimetre."""


class Dice:
    """Choices made with `Random.random` alone.

    It is the only method whose sequence is guaranteed to stay the same from one Python version to the next.
    """

    def __init__(self, seed: int | str) -> None:
        self.roll: Callable[[], float] = Random(seed).random  # noqa: S311  # a sample keeps no secret

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.roll()

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int((high - low + 1) * self.roll())

    def chance(self, probability: float) -> bool:
        return self.roll() < probability

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[int(len(choices) * self.roll())]

    def weighted(self, choices: Sequence[T], cumulative: Sequence[float]) -> T:
        return choices[bisect(cumulative, self.roll() * cumulative[-1], 0, len(choices) - 1)]

    def direction(self, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
        """Cosine and sine of an angle, in turns; rounded because C libraries differ in the last bit."""
        angle = math.tau * self.between(low, high)
        return round(math.cos(angle), 6), round(math.sin(angle), 6)


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle on the ground.

    Attributes:
        east: metres from the campaign's centre to this one's.
        north: likewise.
        width: metres, before rotation.
        height: likewise.
        turn: cosine and sine of the counterclockwise rotation.
    """

    east: float
    north: float
    width: float
    height: float
    turn: tuple[float, float]


def drone_frames(dice: Dice) -> Iterator[Frame]:
    """One site repeatedly, a town in overlapping pieces, a stretch of river, or a whole valley."""
    side = 120.0 + 880.0 * dice.roll() * dice.roll()
    turn = (1.0, 0.0) if dice.chance(0.4) else dice.direction(-0.25, 0.25)
    manner = dice.weighted(("site", "town", "river", "valley"), (45, 80, 92, 100))
    if manner == "site":
        steps = [(dice.between(-0.3, 0.3), dice.between(-0.3, 0.3)) for _ in range(dice.whole(1, 9))]
    elif manner == "town":
        columns, rows = dice.whole(2, 6), dice.whole(1, 5)
        steps = [(0.8 * column - 2.0, 0.7 * row - 1.5) for row in range(rows) for column in range(columns)]
    elif manner == "river":
        bend = dice.between(-0.06, 0.06)
        steps = [(0.75 * step, bend * step * step) for step in range(dice.whole(4, 13))]
    else:
        side *= 3.0
        steps = [(0.7 * step, 0.0) for step in range(dice.whole(1, 2))]
    cosine, sine = turn
    for along, across in steps:
        yield Frame(
            east=side * (along * cosine - across * sine + dice.between(-0.05, 0.05)),
            north=side * (along * sine + across * cosine + dice.between(-0.05, 0.05)),
            width=side * dice.between(0.85, 1.0),
            height=side * dice.between(0.6, 1.0),
            turn=turn,
        )


def pilot_frames(dice: Dice) -> Iterator[Frame]:
    """What a hobbyist flies on a weekend: the first frames of a drone campaign."""
    yield from islice(drone_frames(dice), dice.whole(1, 5))


def aircraft_frames(dice: Dice) -> Iterator[Frame]:
    """A block of orthophoto sheets, edge to edge; some at its border are missing."""
    side = dice.one_of((800.0, 1000.0, 1500.0, 2000.0))
    columns, rows = dice.whole(3, 8), dice.whole(2, 6)
    for row in range(rows):
        for column in range(columns):
            inside = 0 < row < rows - 1 and 0 < column < columns - 1
            if inside or dice.chance(0.8):
                yield Frame(side * (column - columns / 2), side * (row - rows / 2), side, side, (1.0, 0.0))


def satellite_frames(dice: Dice) -> Iterator[Frame]:
    """Strips along a descending orbit, tilted 9 to 16 degrees from the meridian."""
    width = dice.between(10_000.0, 18_000.0)
    turn = dice.direction(-0.045, -0.025)
    cosine, sine = turn
    strips = dice.whole(1, 4)
    for strip in range(strips):
        across = width * (0.85 * (strip - strips / 2) + dice.between(0.0, 0.85))
        along = dice.between(-9_000.0, 9_000.0)
        length = 12_000.0 + 88_000.0 * dice.roll() * dice.roll()
        yield Frame(across * cosine - along * sine, across * sine + along * cosine, width, length, turn)


def ragged_outline(dice: Dice) -> Outline:
    """Valid pixels of a stitched image: a rectangle frayed towards its centre, so it never crosses itself."""
    corners = dice.whole(12, 60)
    outline = []
    for corner in range(corners):
        side, along = divmod(4.0 * corner / corners, 1.0)
        x, y = ((along, 0.0), (1.0, along), (1.0 - along, 1.0), (0.0, 1.0 - along))[int(side)]
        left = 1.0 - 0.25 * dice.roll() * dice.roll()
        outline.append((left * (x - 0.5), left * (y - 0.5)))
    return outline


def moved(lon: float, lat: float, *, metres: float, direction: tuple[float, float]) -> tuple[float, float]:
    """Longitude and latitude after a move by `metres`; good enough where the earth can be treated as flat."""
    cosine, sine = direction
    degrees = metres / METRES_PER_DEGREE
    return lon + degrees * cosine / _shrinking(lat), lat + degrees * sine


def ring_on_earth(lon: float, lat: float, frame: Frame, outline: Outline) -> Ring:
    """The outline stretched over a frame whose campaign is centred at this longitude and latitude."""
    cosine, sine = frame.turn
    north = 1.0 / METRES_PER_DEGREE
    east = north / _shrinking(lat)
    middle_lon, middle_lat = lon + frame.east * east, lat + frame.north * north
    x_east, x_north = frame.width * cosine * east, frame.width * sine * north
    y_east, y_north = -frame.height * sine * east, frame.height * cosine * north
    ring = [
        [
            round((middle_lon + x * x_east + y * y_east) * _STEPS_PER_DEGREE) / _STEPS_PER_DEGREE,
            round((middle_lat + x * x_north + y * y_north) * _STEPS_PER_DEGREE) / _STEPS_PER_DEGREE,
        ]
        for x, y in outline
    ]
    ring.append(list(ring[0]))
    return ring


def _shrinking(lat: float) -> float:
    """Length of a degree of longitude relative to the equator's; rounded as in `Dice.direction`."""
    return round(math.cos(math.radians(lat)), 6)
