"""Stages of a build, at each of which it can be caught and held while something happens to it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psycopg

from oam_mosaic_assets_tests.campaign.builds import Build
from oam_mosaic_assets_tests.campaign.lane import Lane
from oam_mosaic_assets_tests.servers.s3_proxy import Spoiled

PATIENCE_SECONDS: Final = 240.0


class NotMet(AssertionError):
    """The build ended or passed the stage without being caught there: the fault was not injected."""


@dataclass(frozen=True, slots=True)
class Met:
    """A stage at which a build is awaited.

    Attributes:
        wait: returns when the build has reached it.
        let_go: lets the build continue from there, if it still can.
    """

    wait: Callable[[Build], None]
    let_go: Callable[[Build], None] = lambda _: None


Stage = Callable[[Lane], AbstractContextManager[Met]]


def asks(operation: str, key: str, *, served: bool = False, goes_on: bool = False, skip: int = 0) -> Stage:
    """The build has sent this call and waits for the response, which never comes.

    Args:
        operation, key: as for `S3Proxy.spoil`.
        served: whether the server has carried out the call by then.
        goes_on: whether the response does come, once the build is let go.
        skip: how many such calls to let through first.
    """

    @contextmanager
    def met(lane: Lane) -> Iterator[Met]:
        reached, released = threading.Event(), threading.Event()

        def hold() -> None:
            reached.set()
            released.wait(PATIENCE_SECONDS)

        lane.proxy.spoil(
            operation,
            key,
            Spoiled(
                before=None if served else hold,
                after=hold if served else None,
                cut=not served and not goes_on,
                cut_answer=served and not goes_on,
                times=1,
            ),
            skip=skip,
        )
        try:
            yield Met(
                lambda build: _until(reached.is_set, build), lambda _: released.set() if goes_on else None
            )
        finally:
            released.set()

    return met


@contextmanager
def reads(lane: Lane) -> Iterator[Met]:
    """The build is waiting for the catalogue's rows."""
    connection = lane.database.connect()
    try:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        waiting = "SELECT 1 FROM pg_locks WHERE relation = 'pgstac.items'::regclass AND NOT granted"
        yield Met(lambda build: _until(lambda: connection.execute(waiting).fetchone() is not None, build))
    finally:
        with suppress(psycopg.Error):  # the fault may be that the server ended
            connection.close()


@contextmanager
def tiles(lane: Lane) -> Iterator[Met]:
    """Tippecanoe is running, and takes longer than anyone waits, though not when it is retried."""
    number = lane.folder / "tippecanoe.number"
    number.unlink(missing_ok=True)
    lane.let_tippecanoe(f"[ -e '{number}' ] && exec \"$real\" \"$@\"\necho $$ >'{number}'; exec sleep 600")
    yield Met(lambda build: _until(lambda: number.exists() and number.read_text().endswith("\n"), build))


def tippecanoes_process(lane: Lane) -> int:
    """Id of the process that `tiles` caught."""
    return int((lane.folder / "tippecanoe.number").read_text())


@contextmanager
def packs(lane: Lane) -> Iterator[Met]:
    """The build is packing tiles into the archive, and each tile takes a while to read."""
    made = lane.folder / "tiles.made"
    made.unlink(missing_ok=True)
    slow = f"'{sys.executable}' -m oam_mosaic_assets_tests.campaign.slow_tiles"
    lane.let_tippecanoe(f'"$real" "$@" && {slow} "${{1#--output=}}" && [ "$1" != --version ] && >"{made}"')
    yield Met(lambda build: _until(made.exists, build))


def _until(happens: Callable[[], bool], build: Build) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    looked = time.monotonic()
    while not happens():
        if time.monotonic() > looked + 1.0:
            looked = time.monotonic()
            if not build.is_running() and not happens():
                raise NotMet(f"the build ended before: {build.wait()}")
        if time.monotonic() > deadline:
            raise NotMet("the build did not get that far")
        time.sleep(0.01)


STAGES: Final[dict[str, Stage]] = {
    "reading the catalogue": reads,
    "writing GeoJSON": asks("PutObject", "*/footprints.geojsonl"),
    "tiling": tiles,
    "packing tiles": packs,
    "uploading to staging": asks("PutObject", "*/staging/*/global-mosaic.pmtiles", served=True),
    "auditing": asks("PutObject", "*/audit.json"),
    "copying to the release": asks("CopyObject", "*/builds/*/global-mosaic.pmtiles", served=True),
    "copying to the fixed key": asks("CopyObject", "global-mosaic.pmtiles", served=True),
    "turning the pointer": asks("PutObject", "*/latest.json", served=True),
    "tidying up": asks("DeleteObjects", ""),
}
