"""Draw in QGIS what the recipes describe, without a screen; run with the Python that QGIS is installed for.

    apt-get install --no-install-recommends python3-qgis qgis-providers
    cd oam_mosaic_assets_tests/campaign
    HOME=$(mktemp -d) QT_QPA_PLATFORM=offscreen /usr/bin/python3 qgis_reader.py \
        http://127.0.0.1:3004 http://127.0.0.1:8084 29.5 -20.3 30.9 -19.4 map

Arguments: the vector and the raster server, a view in degrees (west, south, east, north) with an image in its
middle and none in its corner, and a prefix for the names of the pictures. QGIS's own dialog imports the
served connection files, into the settings below HOME. Exits with 1 if a picture does not show the coverage.
"""

from __future__ import annotations

import sys
from tempfile import NamedTemporaryFile
from urllib.parse import quote, urlencode
from urllib.request import urlopen

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsMapLayer,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsSettings,
    QgsVectorTileLayer,
)
from qgis.gui import QgsManageConnectionsDialog
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor, QImage

SIDE = 512
WHITE = QColor("white")


def connection(kind: int, address: str, settings: str) -> dict[str, str]:
    """The settings QGIS stores for a connection after its dialog has imported the file at an address."""
    with urlopen(address) as answer, NamedTemporaryFile(suffix=".xml") as file:  # noqa: S310  # the caller's URL
        file.write(answer.read())
        file.flush()
        dialog = QgsManageConnectionsDialog(None, QgsManageConnectionsDialog.Import, kind, file.name)
        dialog.selectAll()
        dialog.doExportImport()
    stored = QgsSettings()
    stored.beginGroup(f"qgis/{settings}/OpenAerialMap coverage")
    return {name: str(stored.value(name)) for name in ("url", "zmin", "zmax")}


def layers(vector: str, raster: str) -> dict[str, QgsMapLayer]:
    """The layers the recipes add: rasters by XYZ and by WMTS, footprints as vector tiles."""
    kinds = QgsManageConnectionsDialog
    pictures = connection(kinds.XyzTiles, f"{raster}/qgis.xml", "connections-xyz")
    footprints = connection(kinds.VectorTile, f"{vector}/qgis-vector.xml", "connections-vector-tile")
    wmts = quote(f"{raster}/WMTSCapabilities.xml", safe=":/")
    return {
        "xyz": QgsRasterLayer("type=xyz&" + urlencode(pictures), "xyz", "wms"),
        "wmts": QgsRasterLayer(
            f"layers=coverage&styles=default&format=image/png&crs=EPSG:3857"
            f"&tileMatrixSet=GoogleMapsCompatible&url={wmts}",
            "wmts",
            "wms",
        ),
        "vector": QgsVectorTileLayer("type=xyz&" + urlencode(footprints), "vector"),
    }


def drawn(layer: QgsMapLayer, view: QgsRectangle) -> QImage:
    """Draw a layer on a white background."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
    settings.setExtent(view)
    settings.setOutputSize(QSize(SIDE, SIDE))
    settings.setBackgroundColor(WHITE)
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    for error in job.errors():
        print(error.layerID, error.message)  # noqa: T201
    return job.renderedImage()


def main(vector: str, raster: str, west: str, south: str, east: str, north: str, name: str) -> int:
    application = QgsApplication([], True)  # noqa: FBT003  # Qt's own signature
    application.initQgis()
    print("QGIS", Qgis.QGIS_VERSION)  # noqa: T201
    degrees = QgsRectangle(float(west), float(south), float(east), float(north))
    to_map = QgsCoordinateTransform(
        QgsCoordinateReferenceSystem("EPSG:4326"),
        QgsCoordinateReferenceSystem("EPSG:3857"),
        QgsProject.instance(),
    )
    view, wrong = to_map.transformBoundingBox(degrees), 0
    for kind, layer in layers(vector, raster).items():
        image = drawn(layer, view) if layer.isValid() else QImage()
        image.save(f"{name}-{kind}.png")
        width, height = image.width(), image.height()
        covered = sum(
            image.pixelColor(x, y) != WHITE for x in range(0, width, 4) for y in range(0, height, 4)
        )
        middle, corner = image.pixelColor(width // 2, height // 2), image.pixelColor(8, 8)
        ok = layer.isValid() and middle != WHITE and corner == WHITE
        wrong += not ok
        print(kind, "ok" if ok else "WRONG", middle.name(), corner.name(), f"{covered * 16} pixels")  # noqa: T201
    del layer
    application.exitQgis()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
