"""The sample catalogue: made-up images like OpenAerialMap's, for a first look, for tests and for benchmarks.

None of the images exists: their addresses lead nowhere. `sample_campaigns` makes the clean images,
`sample_dirt` says what is wrong with a known handful of items.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from oam_mosaic_assets.gateways.catalogue.sample_campaigns import DAY, Image, draw_images
from oam_mosaic_assets.gateways.catalogue.sample_dirt import (
    DIRT,
    ID_REPEATED,
    MARK,
    UNREADABLE,
    UNREADABLE_ROWS,
    UPLOADED_TWICE,
)
from oam_mosaic_assets.gateways.catalogue.source import Holdings, Item, Unreadable, ids_in

COLLECTION: Final = "openaerialmap"

_HOST: Final = "https://imagery.invalid"
"""RFC 6761: no name under `invalid` ever resolves."""

_EXTENSIONS: Final = (
    "https://docs.imagery.hotosm.org/oam/v0.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)

_OPENED: Final = int(datetime(2015, 10, 1, tzinfo=UTC).timestamp())
"""The earliest upload; images taken before this were uploaded after it."""

_VISUAL_SINCE: Final = int(datetime(2017, 10, 1, tzinfo=UTC).timestamp())
"""Items uploaded before this have the asset `data`."""

_LONGEST_WAIT: Final = 30 * DAY
"""Longest time from the last photograph to the upload."""

_ODD: Final = 0x9E3779B97F4A7C15
"""Multiplied by an odd number modulo a power of two, row numbers stay distinct and look random."""

_DIRTY_ROWS: Final = tuple((kind, nth) for kind, dirt in DIRT.items() for nth in range(dirt.count))


class SampleCatalogue:
    """A catalogue that needs no server.

    The same `images` and `seed` give the same items in the same order, whenever and wherever they are read.

    Args:
        images: how many rows it has, dirty ones included.
        seed: of the generator.

    Raises:
        ValueError: there are fewer images than twice the dirty rows.
    """

    kind = "sample"

    def __init__(self, images: int = 2000, *, seed: int = 1) -> None:
        fewest = 2 * len(_DIRTY_ROWS)
        if images < fewest:
            raise ValueError(f"a sample needs at least {fewest} images, not {images}")
        self._images = images
        self._seed = seed

    @property
    def origin(self) -> str:
        return f"sample catalogue ({self._images:,} images)"

    def snapshot(self) -> AbstractContextManager[SampleSnapshot]:
        """Open the sample. It is taken at the current time, but no item depends on the clock."""
        return nullcontext(SampleSnapshot(taken_at=datetime.now(UTC), expected=self._images, seed=self._seed))

    def count(self) -> int:
        return self._images

    def ids(self) -> Iterator[object]:
        with self.snapshot() as snapshot:
            yield from ids_in(snapshot)


@dataclass(frozen=True, slots=True)
class SampleSnapshot:
    """The sample as it was opened; it never changes.

    Attributes:
        taken_at: when it was opened, UTC.
        expected: how many rows there are.
        seed: of the generator.
    """

    is_exact: ClassVar[bool] = True

    taken_at: datetime
    expected: int
    seed: int

    def watermark(self) -> None:
        return None

    def holdings(self) -> Holdings:
        return Holdings(collections=1, items=None)

    def items(self) -> Iterator[Item | Unreadable]:
        """Every item once: clean ones campaign by campaign, with the dirty ones spread evenly among them."""
        images = draw_images(self.expected, self.seed)
        spacing = self.expected / len(_DIRTY_ROWS)
        dirty = {int((n + 0.5) * spacing) + 1: kind_and_nth for n, kind_and_nth in enumerate(_DIRTY_ROWS)}
        for row in range(1, self.expected + 1):
            kind, nth = dirty.get(row, ("", 0))
            if kind == UNREADABLE:
                yield Unreadable(row=row, text=UNREADABLE_ROWS[nth])
                continue
            if kind not in (ID_REPEATED, UPLOADED_TWICE):
                image = next(images)
            # the row before a dirty one is clean, and its image is still at hand
            item = _item(image, row - 1 if kind == ID_REPEATED else row, self.seed)
            if kind:
                item["properties"][MARK] = kind
            if kind and (spoil := DIRT[kind].spoil):
                spoil(item, nth)
            yield item


def _item(image: Image, row: int, seed: int) -> dict[str, Any]:
    """The item that the catalogue would hold for an image. Its row decides all that is random."""
    campaign = image.campaign
    scattered = (row * _ODD + seed) % 2**64
    chance = scattered >> 32
    created = max(image.ended, _OPENED) + chance % _LONGEST_WAIT
    name = f"{created:08x}{scattered:016x}"
    title = f"{campaign.title} {image.number}"
    address = f"{_HOST}/{campaign.started:08x}/0/{name}"
    properties: dict[str, Any] = {
        "title": title,
        "gsd": campaign.gsd,
        "license": campaign.license,
        "oam:producer_name": campaign.producer,
        "oam:platform_type": campaign.platform,
        "created": _date(created),
        "updated": _date(created + 3600),
    }
    if image.started == image.ended:
        properties["datetime"] = _date(image.started)
    else:
        properties["datetime"] = None
        properties["start_datetime"] = _date(image.started)
        properties["end_datetime"] = _date(image.ended)
    if campaign.instrument:
        properties["instruments"] = [campaign.instrument]
    if chance % 20:
        producer = {"name": campaign.producer, "roles": ["producer", "licensor"]}
        properties["providers"] = [producer] if chance % 19 else []
    longitudes, latitudes = zip(*image.ring, strict=True)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": name,
        "collection": COLLECTION,
        "geometry": {"type": "Polygon", "coordinates": [image.ring]},
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "properties": properties,
        "links": [],
        "assets": {
            "visual" if created >= _VISUAL_SINCE else "data": {
                "href": f"{address}.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "title": title,
                "roles": ["data"],
                "file:size": image.size,
            },
            "thumbnail": {"href": f"{address}.png", "type": "image/png", "roles": ["thumbnail"]},
            "metadata": {"href": f"{address}_meta.json", "type": "application/json", "roles": ["metadata"]},
        },
    }


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
