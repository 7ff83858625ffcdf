"""The schedules, in UTC: the chain and tidying up once a day by default, the freshness check every hour."""

from functools import partial

import dagster as dg

from oam_mosaic_assets.automation.jobs import global_mosaic, mosaic_freshness
from oam_mosaic_assets.automation.old_runs import old_runs

_in_utc = partial(
    dg.ScheduleDefinition, execution_timezone="UTC", default_status=dg.DefaultScheduleStatus.RUNNING
)


def daily_mosaic(cron: str) -> dg.ScheduleDefinition:
    """The schedule of the whole chain.

    After an outage only the latest missed tick runs: every mosaic is a full snapshot.

    Args:
        cron: an expression with which `core.cron` finds no problem; Dagster takes all of them.
    """
    return _in_utc(
        name="daily_mosaic",
        job=global_mosaic,
        cron_schedule=cron,
        description="Builds the mosaic from the catalogue and publishes it.",
    )


hourly_freshness = _in_utc(
    name="hourly_freshness",
    job=mosaic_freshness,
    cron_schedule="30 * * * *",
    description="Reports a public mosaic that was deleted or overwritten, or is no longer rebuilt.",
)

daily_tidying = _in_utc(
    name="daily_tidying",
    job=old_runs,
    cron_schedule="45 1 * * *",
    description="Deletes Dagster's records of runs that ended more than 90 days ago.",
)
