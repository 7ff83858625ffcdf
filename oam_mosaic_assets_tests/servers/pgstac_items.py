"""Loading STAC items into a pgSTAC database as pypgstac's loader does, for any version of pgSTAC."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from pypgstac.hydration import dehydrate

from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase

COLLECTION = "openaerialmap"
ITEMS_PER_INSERT = 2000


def load_items(
    database: PgstacDatabase,
    items: Iterable[Mapping[str, Any]],
    *,
    collection: Mapping[str, Any] | None = None,
) -> None:
    """Load items into a pgSTAC database as pypgstac's loader does; those already there are replaced.

    PostGIS must be able to read the geometry, and pgSTAC the dates. A test that wants a row that
    these refuse writes it into `pgstac.items` itself.

    Args:
        items: STAC items with unique ids; their collections are created if missing.
        collection: the STAC collection to create or replace first.
    """
    with database.connect() as connection:
        if collection is not None:
            connection.execute("SELECT upsert_collection(%s)", [Jsonb(collection)])
        rows = iter(items)
        while batch := list(itertools.islice(rows, ITEMS_PER_INSERT)):
            for name in sorted({item["collection"] for item in batch}):
                connection.execute(
                    "SELECT create_collection(%s) WHERE NOT EXISTS (SELECT FROM collections WHERE id = %s)",
                    [Jsonb(a_collection(name)), name],
                )
                _load(connection, name, [item for item in batch if item["collection"] == name])


def _load(connection: psycopg.Connection, collection: str, items: list[Mapping[str, Any]]) -> None:
    """Load into one collection. pgSTAC's own `upsert_items` does the same, but is twenty times slower."""
    tagged = connection.execute("SELECT to_regproc('pgstac.current_base_item') IS NOT NULL").fetchone()
    base = connection.execute(
        "SELECT base_item_id, base_item FROM current_base_item(%s)"
        if tagged == (True,)
        else "SELECT NULL, base_item FROM collections WHERE id = %s",
        [collection],
    ).fetchone()
    assert base is not None
    base_item_id, base_item = base
    with connection.transaction():
        connection.execute("CREATE TEMP TABLE incoming (item jsonb, content jsonb) ON COMMIT DROP")
        with connection.cursor().copy("COPY incoming FROM STDIN") as copy:
            for item in items:
                content = dehydrate(base_item, dict(item))
                content = {
                    key: content[key] for key in content if key not in {"id", "collection", "geometry"}
                }
                if base_item_id is not None:
                    content["pgstac:base_item"] = base_item_id
                copy.write_row([Jsonb(item), Jsonb(content)])
        connection.execute(
            "SELECT check_partition(%s,"
            " tstzrange(min(stac_datetime(item)), max(stac_datetime(item)), '[]'),"
            " tstzrange(min(stac_end_datetime(item)), max(stac_end_datetime(item)), '[]')) FROM incoming",
            [collection],
        )
        connection.execute(
            "DELETE FROM items USING incoming WHERE collection = %s AND id = item->>'id'", [collection]
        )
        connection.execute(
            "INSERT INTO items (id, geometry, collection, datetime, end_datetime, content)"
            " SELECT item->>'id', stac_geom(item), %s, stac_datetime(item), stac_end_datetime(item),"
            " incoming.content FROM incoming",
            [collection],
        )


def a_collection(name: str = COLLECTION, **more: Any) -> dict[str, Any]:
    """Make a small STAC collection."""
    return {
        "type": "Collection",
        "id": name,
        "stac_version": "1.0.0",
        "description": name,
        "license": "CC-BY-4.0",
        "links": [],
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2000-01-01T00:00:00Z", None]]},
        },
        **more,
    }
