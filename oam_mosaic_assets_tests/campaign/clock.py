"""Builds whose clock jumps, by means of libfaketime; all other clocks stay right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from oam_mosaic_assets_tests.campaign.builds import Ended
from oam_mosaic_assets_tests.campaign.injection import Inject, Injection, ends
from oam_mosaic_assets_tests.campaign.lane import Lane
from oam_mosaic_assets_tests.campaign.stages import Stage, asks

JUMPS: Final = {
    "ten minutes ahead": timedelta(minutes=10),
    "ten minutes back": timedelta(minutes=-10),
    "a day ahead": timedelta(days=1),
    "a day back": timedelta(days=-1),
}
"""Ten minutes exceed the lifetime of the publisher's lock, but not the clock skew S3 allows: 15 minutes."""

STAGES: Final[dict[str, Stage]] = {
    "writing GeoJSON": asks("PutObject", "*/footprints.geojsonl", goes_on=True),
    "copying to the fixed key": asks("CopyObject", "global-mosaic.pmtiles", goes_on=True),
}


def jumping(stage: Stage, ahead: timedelta) -> Inject:
    """Make the clock jump while a build is at a stage."""

    def inject(lane: Lane) -> Ended:
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        clock = lane.folder / "clock"
        _set(clock, timedelta())
        with stage(lane) as there:
            build = lane.command(
                module="oam_mosaic_assets_tests.campaign.under_faketime",
                LD_PRELOAD=str(library),
                FAKETIME_TIMESTAMP_FILE=str(clock),
                FAKETIME_CACHE_DURATION="1",
                FAKETIME_DONT_FAKE_MONOTONIC="1",
                NO_FAKE_STAT="1",
            )
            there.wait(build)
            _set(clock, ahead)
            time.sleep(2.0)  # until libfaketime reads the file again
            there.let_go(build)
            return build.wait()

    return inject


def _set(clock: Path, ahead: timedelta) -> None:
    written = clock.with_suffix(".new")
    written.write_text(f"{ahead.total_seconds():+.0f}\n")
    written.replace(clock)


def clock_injections() -> Iterator[Injection]:
    """Each jump at each stage. With clocks a day apart, S3 refuses all of the build's requests."""
    for where, stage in STAGES.items():
        for what, ahead in JUMPS.items():
            is_refused = abs(ahead) >= timedelta(days=1)
            yield Injection(
                where,
                f"the clock jumps {what}",
                ends(2 if is_refused else 0),
                jumping(stage, ahead),
                leaves=is_refused,
            )
