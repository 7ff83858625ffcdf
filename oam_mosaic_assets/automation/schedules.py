"""The schedules, in UTC: the chain once a day by default, the freshness check once an hour."""

import dagster as dg

from oam_mosaic_assets.automation.jobs import global_mosaic, mosaic_freshness
from oam_mosaic_assets.errors import SettingsError


def daily_mosaic(cron: str) -> dg.ScheduleDefinition:
    """The schedule of the whole chain.

    After an outage only the latest missed tick runs: every mosaic is a full snapshot.

    Raises:
        SettingsError: `cron` is not a cron expression.
    """
    try:
        return dg.ScheduleDefinition(
            name="daily_mosaic",
            job=global_mosaic,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Builds the mosaic from the catalogue and publishes it.",
        )
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"MOSAIC_CRON is not a cron expression: {cron!r}.",
            hint="Give minute, hour, day, month and weekday, such as `0 3 * * *` for 03:00 UTC every day.",
        ) from None


hourly_freshness = dg.ScheduleDefinition(
    name="hourly_freshness",
    job=mosaic_freshness,
    cron_schedule="30 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Reports a public mosaic that was deleted or overwritten, or is no longer rebuilt.",
)
