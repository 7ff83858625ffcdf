"""The sample's images before anything is wrong with them: campaigns of drones, aircraft and satellites.

A campaign is what one team photographed of one place in one season. `sample_frames` lays its images out on
the ground, `sample_places` says where in the world that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from oam_mosaic_assets.gateways.catalogue.sample_frames import (
    RECTANGLE,
    Dice,
    Frame,
    Ring,
    aircraft_frames,
    drone_frames,
    moved,
    pilot_frames,
    ragged_outline,
    ring_on_earth,
    satellite_frames,
)
from oam_mosaic_assets.gateways.catalogue.sample_places import PLACES, REGIONS, SURVEYED_PLACES, Place

DAY: Final = 86_400
"""Seconds."""

_RAGGED_OUTLINES: Final = 64

_SITES: Final = 8
"""Sites of a town within its reach. Every `_IMAGES_PER_SITES` images add as many, further out, so that a
large sample is no denser than a small one."""

_IMAGES_PER_SITES: Final = 2000

_STRETCHED: Final = 65.0
"""Degrees; beyond it, Web Mercator stretches one satellite scene over more tiles than all drone flights."""

_NEAREST_TO_POLE: Final = 83.5
"""Degrees; from this latitude, no clean image reaches the edge of Web Mercator."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How one kind of platform photographs. Choices are uniform: a value is repeated to give it more weight.

    Attributes:
        places: where it photographs.
        by_rank: how often each place is visited, cumulative.
        sites: how many sites lie within a place's reach.
        frames: lays out one campaign.
        ragged: the share of campaigns whose outlines follow the valid pixels; others have rectangles.
        spread: degrees of longitude that a campaign's centre keeps from the antimeridian, either side.
        hours: longest time from an image's first photograph to its last.
        in_the_year: whether campaigns are in the place's year; otherwise in the years people fly drones.
        gsds: ground sample distances, metres.
    """

    places: Sequence[Place]
    by_rank: Sequence[float]
    sites: int
    frames: Callable[[Dice], Iterator[Frame]]
    ragged: float
    spread: float
    hours: int
    in_the_year: bool
    platforms: Sequence[str]
    themes: Sequence[str]
    producers: Sequence[str]
    instruments: Sequence[str | None]
    licenses: Sequence[str]
    gsds: Sequence[float]


@dataclass(frozen=True, slots=True)
class Campaign:
    """What the images of one campaign have in common.

    Attributes:
        platform: as spelled in the catalogue: uav, UAV, drone, ….
        license: SPDX identifier.
        started: seconds since 1970, UTC.
        gsd: ground sample distance, metres.
    """

    title: str
    platform: str
    producer: str
    instrument: str | None
    license: str
    started: int
    gsd: float


@dataclass(frozen=True, slots=True)
class Image:
    """One image.

    Attributes:
        number: counts the campaign's images from 1.
        ring: its outline.
        size: bytes of its file.
        started: time of the first photograph, seconds since 1970, UTC.
        ended: time of the last; the same for a single shot.
    """

    campaign: Campaign
    number: int
    ring: Ring
    size: int
    started: int
    ended: int


def _by_rank(places: Sequence[Place], flatness: int) -> Sequence[float]:
    """The Zipf-Mandelbrot law, cumulative: many images of a few places, a few of many."""
    return tuple(accumulate(1.0 / (rank + flatness) for rank in range(len(places))))


_MOSTLY_BY: Final = ("CC-BY-4.0",) * 18 + ("CC-BY-NC-4.0", "CC-BY-SA-4.0")

DRONES: Final = Fleet(
    places=PLACES,
    by_rank=_by_rank(PLACES, 4),
    sites=_SITES,
    frames=drone_frames,
    ragged=0.45,
    spread=0.1,
    hours=72,
    in_the_year=False,
    platforms=("uav",) * 180 + ("UAV",) * 12 + ("drone",) * 5 + ("kite", "kite", "balloon"),
    themes=("riverside", "market", "school", "north", "old town", "after the storm", "camp", "harbour"),
    producers=("{} Drone Mappers", "University of {}", "Open Cities {}", "{} Red Roof Survey"),
    instruments=("DJI Mavic 3E", "DJI Phantom 4 Pro", "senseFly eBee", "Autel EVO II", "RGB", None),
    licenses=_MOSTLY_BY,
    gsds=(0.02, 0.03, 0.04, 0.05, 0.05, 0.07, 0.1, 0.15),
)

PILOTS: Final = replace(
    DRONES,
    places=REGIONS,
    by_rank=_by_rank(REGIONS, 40),
    sites=100_000,
    frames=pilot_frames,
    themes=("farm", "village", "quarry", "test flight", "hill", "campus"),
    producers=("A pilot from {}", "{} Aerial Club"),
)

AIRCRAFT: Final = Fleet(
    places=SURVEYED_PLACES,
    by_rank=_by_rank(SURVEYED_PLACES, 4),
    sites=_SITES,
    frames=aircraft_frames,
    ragged=0.0,
    spread=0.3,
    hours=48,
    in_the_year=True,
    platforms=("aircraft",),
    themes=("orthophoto", "orthophoto, leaves off"),
    producers=("{} Survey Office", "City of {}"),
    instruments=("UltraCam Eagle", "Leica DMC III", None),
    licenses=_MOSTLY_BY,
    gsds=(0.075, 0.1, 0.2, 0.25, 0.5),
)

_SEEN_FROM_ORBIT: Final = [place for place in PLACES if abs(place.lat) < _STRETCHED]

SATELLITES: Final = Fleet(
    places=_SEEN_FROM_ORBIT,
    by_rank=_by_rank(_SEEN_FROM_ORBIT, 12),
    sites=_SITES,
    frames=satellite_frames,
    ragged=0.0,
    spread=1.5,
    hours=0,
    in_the_year=True,
    platforms=("satellite",),
    themes=("before the event", "after the event", "after the event", "monitoring"),
    producers=("Example Open Data Programme", "Sample Space Agency"),
    instruments=("WV02", "WV03", "PHR 1A", "MSI", None),
    licenses=("CC-BY-NC-4.0", "CC-BY-NC-4.0", "CC-BY-4.0", "CC-BY-4.0", "CC-BY-SA-4.0"),
    gsds=(0.31, 0.36, 0.5, 0.7, 1.5, 3.0, 10.0, 15.0),
)

_FLEETS: Final = (DRONES, PILOTS, AIRCRAFT, SATELLITES)
_CAMPAIGNS_BY_FLEET: Final = tuple(accumulate((38, 34, 6, 22)))

_DRONE_YEARS: Final = range(2006, 2026)
_IMAGES_BY_YEAR: Final = tuple(
    accumulate((1, 1, 1, 2, 4, 4, 4, 6, 10, 25, 60, 42, 40, 36, 36, 36, 40, 44, 52, 48))
)
"""Cumulative; in proportions like OpenAerialMap's own."""


def draw_images(images: int, seed: int) -> Iterator[Image]:
    """Campaign after campaign, endlessly; read as many images as are wanted.

    Args:
        images: roughly how many will be read; the more, the further they lie from their places.
        seed: of the generator.
    """
    dice = Dice(seed)
    outlines = [ragged_outline(dice) for _ in range(_RAGGED_OUTLINES)]
    sites = _SITES * max(1, images // _IMAGES_PER_SITES)
    while True:
        fleet = dice.weighted(_FLEETS, _CAMPAIGNS_BY_FLEET)
        place = dice.weighted(fleet.places, fleet.by_rank)
        lon, lat = _site(fleet, place, int(max(fleet.sites, sites) * dice.roll() * dice.roll()), seed)
        campaign = _campaign(dice, fleet, place)
        ragged = dice.chance(fleet.ragged)
        for number, frame in enumerate(fleet.frames(dice), start=1):
            started = campaign.started + int(30 * DAY * dice.roll() * dice.roll())
            yield Image(
                campaign=campaign,
                number=number,
                ring=ring_on_earth(lon, lat, frame, dice.one_of(outlines) if ragged else RECTANGLE),
                size=int(0.4 * frame.width * frame.height / (campaign.gsd * campaign.gsd)),
                started=started,
                ended=started + int(3600 * fleet.hours * dice.roll()),
            )


def _site(fleet: Fleet, place: Place, number: int, seed: int) -> tuple[float, float]:
    """Longitude and latitude of one of a place's sites; the same whenever a campaign returns to it."""
    dice = Dice(f"{seed}/{place.name}/{number}")
    metres = 1000.0 * place.reach * math.sqrt((number + dice.roll()) / fleet.sites)
    lon, lat = moved(place.lon, place.lat, metres=metres, direction=dice.direction())
    east, north = 180.0 - fleet.spread, _NEAREST_TO_POLE
    return min(max(lon, -east), east), min(max(lat, -north), north)


def _campaign(dice: Dice, fleet: Fleet, place: Place) -> Campaign:
    year = place.year if fleet.in_the_year else dice.weighted(_DRONE_YEARS, _IMAGES_BY_YEAR)
    return Campaign(
        title=f"{place.name}, {dice.one_of(fleet.themes)}",
        platform=dice.one_of(fleet.platforms),
        producer=dice.one_of(fleet.producers).format(place.name),
        instrument=dice.one_of(fleet.instruments),
        license=dice.one_of(fleet.licenses),
        # early enough that its photographs and their upload fall within the year
        started=int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) + int(300 * DAY * dice.roll()),
        gsd=dice.one_of(fleet.gsds),
    )
