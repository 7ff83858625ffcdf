"""What clients load before they ask for tiles: TileJSON, WMTS capabilities, entries for QGIS, JOSM and iD."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self
from xml.sax.saxutils import escape, quoteattr

from oam_mosaic_assets.core.release import Pointer, as_json
from oam_mosaic_assets.serving.martin import VECTOR, mended_tilejson
from oam_mosaic_assets.serving.nginx import DEEPEST_TILE
from oam_mosaic_assets.settings import Settings

ATTRIBUTION_URL: Final = "https://openaerialmap.org"
LICENCE_URL: Final = "https://docs.openaerialmap.org/legal/legal/"

HALF_WORLD: Final = 20037508.342789244
"""Metres from the equator to the edge of Web Mercator's square (EPSG:3857)."""

SCALE_OF_ZOOM_0: Final = 559082264.0287178
"""Scale denominator of a 256-pixel tile of the world, at 0.28 mm a pixel (OGC 07-057r7, annex E.4)."""

SMALL_TILE: Final = 256
"""Pixels along the edge of a tile, as all map clients assume by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What the raster address shows.

    Attributes:
        word: used in identifiers.
        name: shown to people.
        description: one sentence.
        format: of the tiles served here (not those redirected to), as TileJSON names it.
        pixels: along the edge of such a tile.
        first: the first zoom.
    """

    word: str
    name: str
    description: str
    format: str
    pixels: int = SMALL_TILE
    first: int = 0


COVERAGE: Final = Pictures(
    word="coverage",
    name="OpenAerialMap coverage",
    description="Where OpenAerialMap holds openly licensed aerial and satellite imagery; "
    "at the highest zooms, the imagery itself.",
    format="png",
)

IMAGES: Final = Pictures(
    word="imagery",
    name="OpenAerialMap imagery",
    description="Openly licensed aerial and satellite images of OpenAerialMap.",
    format="webp",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The servers' addresses as clients see them, without a trailing slash."""

    vector: str
    raster: str
    viewer: str

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings, else where the ports answer."""
        vector, raster, viewer = settings.serve_origins
        return cls(
            vector=(settings.serve_vector_url or vector).rstrip("/"),
            raster=(settings.serve_raster_url or raster).rstrip("/"),
            viewer=(settings.serve_viewer_url or viewer).rstrip("/"),
        )

    @property
    def raster_template(self) -> str:
        """The address template of raster tiles."""
        return f"{self.raster}/{{z}}/{{x}}/{{y}}.png"

    @property
    def vector_template(self) -> str:
        """The address template of vector tiles."""
        return f"{self.vector}/{VECTOR}/{{z}}/{{x}}/{{y}}"


def documents_of(
    pointer: Pointer,
    vector: Mapping[str, Any],
    raster: Mapping[str, Any] | None,
    outline: Mapping[str, Any] | None,
    addresses: Addresses,
    pictures: Pictures,
) -> dict[str, bytes]:
    """All documents of a release, by name.

    Args:
        pointer: what is public.
        vector: Martin's TileJSON of the mosaic.
        raster: Martin's TileJSON of the pictures; None if the release has none.
        outline: the coverage's outline as GeoJSON; None if it has none.
        addresses: the servers' addresses as clients see them.
        pictures: what the raster address shows; its first zoom is taken from `raster`.
    """
    build = pointer.build
    last = DEEPEST_TILE
    if raster is not None:
        pictures = replace(pictures, first=int(raster["minzoom"]))
        if pictures.pixels != SMALL_TILE:  # those redirected to are of the usual size
            last = int(raster["maxzoom"])
    tilejson = as_json(mended_tilejson(vector, build=build, tiles=addresses.vector_template))
    documents = {
        f"{VECTOR}.json": tilejson,
        "global-mosaic.json": tilejson,
        "WMTSCapabilities.xml": wmts_capabilities(addresses, pictures, last),
        "josm.xml": josm_imagery(addresses, pictures),
        "qgis.xml": qgis_connections(addresses, pictures),
        "qgis-vector.xml": qgis_vector_connections(addresses, int(vector["minzoom"]), int(vector["maxzoom"])),
        "editor-layer-index.geojson": editor_layer(outline, addresses, pictures),
    }
    if raster is not None:
        tiles, kind = addresses.raster_template, pictures.format
        described = mended_tilejson(raster, build=build, tiles=tiles, kind=kind)
        documents["raster.json"] = as_json(
            {**described, "maxzoom": DEEPEST_TILE, "tileSize": pictures.pixels}
        )
    return documents


def wmts_capabilities(addresses: Addresses, pictures: Pictures, last: int) -> bytes:
    """WMTS 1.0.0 capabilities, REST only, of the raster address in the grid that all web maps share.

    The well-known scale set of that grid assumes 256-pixel tiles. Larger tiles have finer pixels, and so a
    matrix set of their own. Sets that lack its first zooms do not conform to it (OGC 07-057r7, clause 6.2).

    Args:
        addresses: the servers' addresses as clients see them.
        pictures: what the raster address shows.
        last: the deepest zoom whose tiles are as large as `pictures` says.
    """
    pixels = pictures.pixels
    scale = SCALE_OF_ZOOM_0 * SMALL_TILE / pixels
    name = "GoogleMapsCompatible" if pixels == SMALL_TILE else f"GoogleMapsCompatible{pixels}"
    well_known = (
        "\n      <WellKnownScaleSet>urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible</WellKnownScaleSet>"
        if pixels == SMALL_TILE and pictures.first == 0
        else ""
    )
    matrices = "".join(
        f"""
    <TileMatrix>
      <ows:Identifier>{zoom}</ows:Identifier>
      <ScaleDenominator>{scale / 2**zoom!r}</ScaleDenominator>
      <TopLeftCorner>{-HALF_WORLD!r} {HALF_WORLD!r}</TopLeftCorner>
      <TileWidth>{pixels}</TileWidth>
      <TileHeight>{pixels}</TileHeight>
      <MatrixWidth>{2**zoom}</MatrixWidth>
      <MatrixHeight>{2**zoom}</MatrixHeight>
    </TileMatrix>"""
        for zoom in range(pictures.first, last + 1)
    )
    own = quoteattr(f"{addresses.raster}/WMTSCapabilities.xml")
    template = quoteattr(f"{addresses.raster}/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.png")
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
    xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0">
  <ows:ServiceIdentification>
    <ows:Title>{pictures.name}</ows:Title>
    <ows:Abstract>{pictures.description}</ows:Abstract>
    <ows:ServiceType>OGC WMTS</ows:ServiceType>
    <ows:ServiceTypeVersion>1.0.0</ows:ServiceTypeVersion>
  </ows:ServiceIdentification>
  <Contents>
    <Layer>
      <ows:Title>{pictures.name}</ows:Title>
      <ows:WGS84BoundingBox>
        <ows:LowerCorner>-180 -85.051129</ows:LowerCorner>
        <ows:UpperCorner>180 85.051129</ows:UpperCorner>
      </ows:WGS84BoundingBox>
      <ows:Identifier>{pictures.word}</ows:Identifier>
      <Style isDefault="true"><ows:Identifier>default</ows:Identifier></Style>
      <Format>image/{pictures.format}</Format>
      <TileMatrixSetLink><TileMatrixSet>{name}</TileMatrixSet></TileMatrixSetLink>
      <ResourceURL format="image/{pictures.format}" resourceType="tile" template={template}/>
    </Layer>
    <TileMatrixSet>
      <ows:Identifier>{name}</ows:Identifier>
      <ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>{well_known}{matrices}
    </TileMatrixSet>
  </Contents>
  <ServiceMetadataURL xlink:href={own}/>
</Capabilities>
""".encode()


def josm_imagery(addresses: Addresses, pictures: Pictures) -> bytes:
    """An entry for JOSM's imagery list, in the form that `imagery.layers.sites` reads."""
    template = addresses.raster_template.replace("{z}", "{zoom}")
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<imagery xmlns="http://josm.openstreetmap.de/maps-1.0">
  <entry overlay="true">
    <name>{pictures.name}</name>
    <id>OpenAerialMap-{pictures.word}</id>
    <type>tms</type>
    <url>{escape(template)}</url>
    <description lang="en">{pictures.description}</description>
    <min-zoom>{pictures.first}</min-zoom>
    <max-zoom>{DEEPEST_TILE}</max-zoom>
    <tile-size>{pictures.pixels}</tile-size>
    <category>photo</category>
    <attribution-text>© OpenAerialMap contributors</attribution-text>
    <attribution-url>{ATTRIBUTION_URL}</attribution-url>
    <permission-ref>{LICENCE_URL}</permission-ref>
  </entry>
</imagery>
""".encode()


def qgis_connections(addresses: Addresses, pictures: Pictures) -> bytes:
    """Connections for QGIS, loaded by Browser > XYZ Tiles > Load Connections."""
    return f"""\
<!DOCTYPE connections>
<qgsXYZTilesConnections version="1.0">
  <xyztiles name={quoteattr(pictures.name)} url={quoteattr(addresses.raster_template)}
      zmin="{pictures.first}" zmax="{DEEPEST_TILE}" authcfg="" username="" password="" referer=""
      tilePixelRatio="{pictures.pixels // SMALL_TILE}"/>
</qgsXYZTilesConnections>
""".encode()


def qgis_vector_connections(addresses: Addresses, first: int, last: int) -> bytes:
    """Connections for QGIS, loaded by Browser > Vector Tiles > Load Connections; zooms `first` to `last`."""
    return f"""\
<!DOCTYPE connections>
<qgsVectorTileConnections version="1.0">
  <vectortile name={quoteattr(COVERAGE.name)} url={quoteattr(addresses.vector_template)}
      zmin="{first}" zmax="{last}" authcfg="" username="" password="" referer="" styleUrl=""/>
</qgsVectorTileConnections>
""".encode()


def editor_layer(outline: Mapping[str, Any] | None, addresses: Addresses, pictures: Pictures) -> bytes:
    """An entry for the editor layer index (schema v1), compact because its outline has thousands of numbers.

    Args:
        outline: the area where it is of use, as GeoJSON; None for worldwide.
        addresses: the servers' addresses as clients see them.
        pictures: what the raster address shows.
    """
    entry = {
        "type": "Feature",
        "properties": {
            "id": f"OpenAerialMap-{pictures.word}",
            "name": pictures.name,
            "type": "tms",
            "url": addresses.raster_template.replace("{z}", "{zoom}"),
            "min_zoom": pictures.first,
            "max_zoom": DEEPEST_TILE,
            "overlay": True,
            "category": "photo",
            "description": pictures.description,
            "attribution": {
                "required": True,
                "text": "© OpenAerialMap contributors",
                "url": ATTRIBUTION_URL,
            },
            "license_url": LICENCE_URL,
        },
        "geometry": outline,
    }
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
