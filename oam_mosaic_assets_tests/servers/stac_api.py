"""A STAC API as OpenAerialMap runs it: stac-fastapi-pgstac under uvicorn, on a test database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oam_mosaic_assets_tests.servers.apps import running_app
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase


@contextmanager
def running_stac_api(database: PgstacDatabase) -> Iterator[str]:
    """Serve a pgSTAC database; yields the address of the landing page, without a trailing slash.

    Raises:
        RuntimeError: see `running_app`.
    """
    app = "stac_fastapi.pgstac.app:create_app"
    with running_app(app, "/_mgmt/ping", database.environment) as address:
        yield address
