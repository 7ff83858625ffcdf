"""The development catalogue: filled once, from the sample or from a dump of production."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import Site, dagster_instance, quick_folder, some_items, write_items
from oam_mosaic_assets_tests.deployment.production import DEPLOY
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION, a_collection, load_items
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase, PostgresServer, server_program

IMAGES = 12
NAMES = ("sample_of_development", "production_to_be", "restored")


@pytest.fixture(scope="module")
def databases(postgres: PostgresServer) -> Iterator[list[PgstacDatabase]]:
    """Empty databases, as pgSTAC's image creates them."""
    made = [postgres.create_pgstac(f"load_{name}") for name in NAMES]
    yield made
    for each in made:
        postgres.drop(each.name)


def load(database: PgstacDatabase, dump: Path, items: Path) -> str:
    """Fill a database as the service `catalogue` does, and return what it printed."""
    done = attempt(database, dump, items)
    assert done.returncode == 0, done.stderr
    return done.stderr


def attempt(database: PgstacDatabase, dump: Path, items: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEPLOY / "load-catalogue", dump, items],
        env={
            **os.environ,
            **database.environment,
            "PATH": f"{Path(server_program('psql')).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def contents(database: PgstacDatabase) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(
            "SELECT id, geometry::text, datetime, content_hydrate(items) FROM items ORDER BY id"
        ).fetchall()


def test_the_sample_is_loaded_once_less_what_pgstac_cannot_read(
    databases: list[PgstacDatabase], tmp_path: Path
) -> None:
    items = some_items(IMAGES)
    unreadable = [
        {**items[0], "id": "no-polygon", "geometry": {"type": "Polygon", "coordinates": "none"}},
        {**items[0], "id": "no-date", "properties": {}},
        "no item at all",
        '{"id": "a tab \\t and a quote \\""}',
    ]
    write_items(tmp_path / "items.ndjson", [*items, *unreadable])
    said = load(databases[0], tmp_path / "none.dump", tmp_path / "items.ndjson")
    assert f"The catalogue holds {IMAGES} images." in said
    assert [row[0] for row in contents(databases[0])] == sorted(item["id"] for item in items)
    assert "leaving it as it is" in load(databases[0], tmp_path / "none.dump", tmp_path / "items.ndjson")


def test_a_dump_of_production_comes_back_whole_and_a_mosaic_is_made_of_it(
    databases: list[PgstacDatabase], tmp_path: Path
) -> None:
    production, restored = databases[1:]
    load_items(production, some_items(IMAGES), collection=a_collection(title="Production's"))
    dump = tmp_path / "pgstac-backup.dump"
    command = [server_program("pg_dump"), "--format=custom", f"--file={dump}"]
    subprocess.run(command, env={**os.environ, **production.environment}, timeout=120, check=True)

    broken = tmp_path / "broken.dump"
    broken.write_bytes(dump.read_bytes()[:-1000])
    for _ in range(2):
        assert attempt(restored, broken, tmp_path / "none.ndjson").returncode != 0
        with restored.connect() as connection:
            assert connection.execute("SELECT count(*) FROM pgstac.items").fetchone() == (0,)
            connection.execute("DROP TABLE pgstac.items CASCADE")  # as a restore that fails earlier leaves it

    said = load(restored, dump, tmp_path / "none.ndjson")

    assert f"The catalogue holds {IMAGES} images." in said
    assert contents(restored) == contents(production)
    with restored.connect() as connection:
        titles = connection.execute("SELECT content->>'title' FROM collections WHERE id = %s", [COLLECTION])
        assert titles.fetchall() == [("Production's",)]
        # pgSTAC still works: another image can be added
        load_items(restored, some_items(1, first=IMAGES))
    with dagster_instance() as instance, quick_folder() as folder:
        site = Site(restored.environment, instance, folder)
        assert Settings.read(site.environment).source == "pgstac"
        assert site.published().images == IMAGES + 1
