"""All injections, in the order in which they are run."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from oam_mosaic_assets_tests.campaign.builds import Build, Ended
from oam_mosaic_assets_tests.campaign.clock import clock_injections
from oam_mosaic_assets_tests.campaign.injection import (
    Inject,
    Injection,
    cancel,
    ends,
    in_memory_of,
    met,
    on_a_disk_of,
    sign,
    started,
    tippecanoe,
)
from oam_mosaic_assets_tests.campaign.lane import Lane
from oam_mosaic_assets_tests.campaign.s3_injections import s3_injections
from oam_mosaic_assets_tests.campaign.stages import STAGES, asks, reads, tiles, tippecanoes_process
from oam_mosaic_assets_tests.servers.buckets import client_of
from oam_mosaic_assets_tests.servers.proxy import Fault
from oam_mosaic_assets_tests.servers.s3_proxy import Spoiled

SHORT_STOPS: Final = {("tiling", "SIGKILL"), ("turning the pointer", "SIGTERM")}

STOPS: Final = [
    Injection(
        where=where,
        what=number.name,
        ends=ends(-9 if number is signal.SIGKILL else 143),
        inject=met(stage, sign(number)),
        leaves=number is signal.SIGKILL,
        short=(where, number.name) in SHORT_STOPS,
    )
    for where, stage in STAGES.items()
    for number in (signal.SIGKILL, signal.SIGTERM)
]

CANCELLATIONS: Final = [
    Injection(
        where=where,
        what="terminated in Dagster's UI",
        ends=ends("CANCELED"),
        inject=met(stage, cancel),
        by_dagster=True,
    )
    for where, stage in STAGES.items()
]


def kill_tippecanoe(lane: Lane, _: Build) -> None:
    os.kill(tippecanoes_process(lane), signal.SIGKILL)


def end_its_connection(lane: Lane, _: Build) -> None:
    """As an administrator does, or a server short of memory."""
    with lane.database.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE relation = 'pgstac.items'::regclass AND NOT granted"
        )


def crash_the_database(lane: Lane) -> Ended:
    """Stop the server abruptly while it is being read; it is back for the next build."""
    ended = met(reads, lambda lane, _: lane.postgres.stop(at_once=True))(lane)
    lane.postgres.start()
    return ended


def cut_the_catalogue_after(kib: int) -> Inject:
    def inject(lane: Lane) -> Ended:
        lane.catalogue_proxy.set_fault(Fault(cut_down=kib * 1024))
        return lane.start().wait()

    return inject


def a_locked_store(ahead: timedelta | None) -> Inject:
    """Leave another publisher's lock in the store, which nobody renews.

    Args:
        ahead: the expiry that the lock states, relative to now; None for a lock that cannot be read.
    """

    def inject(lane: Lane) -> Ended:
        until = datetime.now(UTC) + (ahead or timedelta())
        stated = {"build": "another", "writer": "another", "until": until.isoformat()}
        content = b"\x00" if ahead is None else json.dumps(stated).encode()
        client_of(lane.ceph).put_object(Bucket=lane.bucket, Key=lane.keys.lock, Body=content)
        return lane.start().wait()

    return inject


def both(first: Ended, second: Ended) -> Ended:
    return Ended(f"{first.how} and {second.how}", f"{first.head}\n{second.head}")


def two_at_once(lane: Lane) -> Ended:
    first, second = lane.start(), lane.start()
    return both(*sorted((first.wait(), second.wait()), key=lambda ended: ended.how))


def halted_past_its_lock(lane: Lane) -> Ended:
    """Suspend a publisher during its copy to the fixed key, and let another one take its place."""
    with asks("CopyObject", "global-mosaic.pmtiles", goes_on=True)(lane) as there:
        first = lane.command()
        there.wait(first)
        os.kill(first.pid, signal.SIGSTOP)
        lane.alter_catalogue()
        second = lane.command().wait()
        there.let_go(first)
        os.kill(first.pid, signal.SIGCONT)
        return both(first.wait(), second)


def twice(lane: Lane, build: Build) -> None:
    for _ in range(2):
        os.kill(build.pid, signal.SIGTERM)
        time.sleep(0.05)


def lose_the_store(lane: Lane, _: Build) -> None:
    lane.proxy.spoil("*", "*", Spoiled(cut=True))


def restart_webserver(lane: Lane, _: Build) -> None:
    assert lane.dagster is not None
    lane.dagster.restart_webserver()


def restart_daemon(lane: Lane, _: Build) -> None:
    assert lane.dagster is not None
    lane.dagster.restart_daemon()


RELEASE: Final = asks("CopyObject", "*/builds/*/global-mosaic.pmtiles", goes_on=True)
FIXED: Final = asks("CopyObject", "global-mosaic.pmtiles", goes_on=True)
AUDIT: Final = asks("PutObject", "*/audit.json", goes_on=True)
HALF: Final = 'made=${1#--output=}; truncate --size=$(($(stat -c %s "$made") / 2)) "$made"'

OTHERS: Final = [
    Injection("reading the catalogue", "its connection is ended", ends(1), met(reads, end_its_connection)),
    Injection("reading the catalogue", "PostgreSQL crashes", ends(1), crash_the_database),
    Injection("reading the catalogue", "no connection", ends(1), cut_the_catalogue_after(0)),
    Injection("reading the catalogue", "cut after 64 KiB", ends(1), cut_the_catalogue_after(64), short=True),
    Injection("tiling", "tippecanoe is killed", ends(1), met(tiles, kill_tippecanoe)),
    Injection(
        "tiling",
        "tippecanoe is killed half-way",
        ends(1),
        tippecanoe('head -c 5000 /dev/urandom >"${1#--output=}"; kill -KILL $$'),
    ),
    Injection("tiling", "half a file, and all is well", ends(1), tippecanoe(f'"$real" "$@"; {HALF}')),
    Injection(
        "tiling",
        "one image is left out",
        ends(3),
        tippecanoe('for last; do :; done; sed -i "\\$d" "$last"; exec "$real" "$@"'),
    ),
    Injection("tiling", "tippecanoe is missing", ends(2), started(TIPPECANOE="{folder}/none")),
    Injection("tiling", "SIGINT", ends(130), met(tiles, sign(signal.SIGINT))),
    Injection("copying to the fixed key", "SIGTERM, twice", ends(143), met(FIXED, twice)),
    Injection("scratch", "a disk of 32 KiB", ends(1), on_a_disk_of(32, setting="MOSAIC_SCRATCH")),
    Injection("scratch", "a disk of 128 KiB", ends(1), on_a_disk_of(128, setting="MOSAIC_SCRATCH")),
    Injection("scratch", "a disk of 512 KiB", ends(1), on_a_disk_of(512, setting="MOSAIC_SCRATCH")),
    Injection("DAGSTER_HOME", "a disk of 64 KiB", ends(1), on_a_disk_of(64, setting="DAGSTER_HOME")),
    Injection(
        "DAGSTER_HOME",
        "a disk of 600 KiB",
        ends(1),
        on_a_disk_of(600, setting="DAGSTER_HOME"),
        leaves=True,  # DAGSTER_HOME records which builds a run made
    ),
    Injection("the whole build", "1 GiB of memory", ends(0), in_memory_of(1024)),
    Injection("the whole build", "100 MiB of memory", ends(-9, 1), in_memory_of(100), leaves=True),
    Injection("the lock", "another's, ending tomorrow", ends(0), a_locked_store(timedelta(days=1))),
    Injection("the lock", "another's, ended yesterday", ends(0), a_locked_store(timedelta(days=-1))),
    Injection("the lock", "cannot be read", ends(0), a_locked_store(None)),
    Injection("copying to the release", "S3 is gone", ends(1), met(RELEASE, lose_the_store), leaves=True),
    Injection("copying to the fixed key", "S3 is gone", ends(1), met(FIXED, lose_the_store), leaves=True),
    Injection("copying to the fixed key", "halted past its lock", ends("1 and 0"), halted_past_its_lock),
    Injection("the whole build", "two at once", ends("0 and 0", "0 and 1"), two_at_once),
]

BY_DAGSTER: Final = [
    *CANCELLATIONS,
    Injection(
        "the whole build",
        "two at once",
        ends("SUCCESS and SUCCESS", "FAILURE and SUCCESS"),
        two_at_once,
        by_dagster=True,
    ),
    Injection(
        "auditing",
        "the webserver is restarted",
        ends("SUCCESS"),
        met(AUDIT, restart_webserver),
        by_dagster=True,
    ),
    *(
        Injection(
            where,
            what,
            ends("FAILURE then SUCCESS"),
            met(stage, does),
            by_dagster=True,
        )
        for where, stage, what, does in [
            ("tiling", tiles, "the run's process is killed", sign(signal.SIGKILL)),
            ("auditing", AUDIT, "the daemon is killed and started", restart_daemon),
            ("copying to the fixed key", FIXED, "the run's process is killed", sign(signal.SIGKILL)),
            ("tidying up", STAGES["tidying up"], "the run's process is killed", sign(signal.SIGKILL)),
            ("auditing", AUDIT, "the run's process is killed", sign(signal.SIGKILL)),
        ]
    ),
]

INJECTIONS: Final = [*STOPS, *OTHERS, *clock_injections(), *s3_injections(), *BY_DAGSTER]
