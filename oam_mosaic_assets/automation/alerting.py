"""The sensor that tells people: once when something goes wrong, and once when it is well again.

Its cursor holds what each channel was told, so that a restart tells nothing twice. What a channel did not
take is tried again a minute later, by that channel alone.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import dagster as dg

from oam_mosaic_assets.automation.conditions import conditions_of
from oam_mosaic_assets.core.alerts import Ledger, Message
from oam_mosaic_assets.errors import AlertNotSent

INTERVAL_SECONDS: Final = 60

SENDING_SECONDS: Final = 20.0
"""After that, nothing more is sent in one tick: Dagster ends one after a minute, and forgets what it did."""


class Channel(Protocol):
    """One way to people; see `gateways.alerts`."""

    @property
    def name(self) -> str:
        """What it is remembered by."""

    def send(self, message: Message) -> str:
        """Send a message; returns what is to be remarked about it.

        Raises:
            AlertNotSent: nobody got it.
        """


def alerts_sensor(channels: Sequence[Channel], *, ui: str) -> dg.SensorDefinition:
    """The sensor, which starts no run.

    Args:
        channels: at least one.
        ui: the address of Dagster's UI; empty where it is not known.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends one alert when the build fails, when one waits for a person, or when the public "
        "mosaic is not as it should be, and one when it is well again.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now = datetime.now(UTC)
        conditions = conditions_of(context.instance, now=now)
        ledger = Ledger.from_text(context.cursor)
        ledger.see(conditions, [channel.name for channel in channels])
        said = [f"{key} since {since:%Y-%m-%d %H:%M} UTC" for key, since in ledger.standing.items()]
        end = time.monotonic() + SENDING_SECONDS
        for channel in channels:
            for message in ledger.untold(channel.name, conditions, now=now, ui=ui.removesuffix("/")):
                if time.monotonic() > end:
                    break
                try:
                    remark = channel.send(message)
                except AlertNotSent as error:
                    context.log.error("%s: %s", channel.name, error)  # noqa: TRY400  # the trace says no more
                    said.append(f"{error.message} It is tried again.")
                    break
                except Exception as error:  # noqa: BLE001  # a tick that fails forgets whom it has told
                    context.log.error("%s: %s", channel.name, type(error).__name__)  # noqa: TRY400  # may hold a secret
                    said.append(f"{channel.name} failed with {type(error).__name__}. It is tried again.")
                    break
                ledger.note(channel.name, message)
                context.log.info("%s: %s. %s", channel.name, message.title, remark)
        context.update_cursor(ledger.to_text())
        return dg.SkipReason("; ".join(said) or "All is well.")

    return alerts
