"""A TiTiler that draws tiles of single COGs, as its own application does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
from titiler.core.factory import TilerFactory

from oam_mosaic_assets_tests.servers.apps import running_app

TILES = "/tiles/WebMercatorQuad/{z}/{x}/{y}.png?url={url}&resampling=bilinear&reproject=bilinear"
"""Where the tiles of an image are."""


def create() -> FastAPI:
    app = FastAPI(title="TiTiler")
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.include_router(TilerFactory().router)
    add_exception_handlers(app, DEFAULT_STATUS_CODES)
    return app


@contextmanager
def running_titiler() -> Iterator[str]:
    """Serve it; yields its address, without a trailing slash."""
    # or GDAL would remember what it found at an address for as long as it runs
    forgetful = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http://127.0.0.1"}
    with running_app(f"{__name__}:create", "/openapi.json", forgetful) as address:
        yield address
