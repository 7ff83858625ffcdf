"""The sensor that alerts people: once when something goes wrong, and once when it is resolved.

Its cursor holds what each channel was told, so that a restart repeats nothing. A message that a channel could
not send is retried a minute later, by that channel alone.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

import dagster as dg

from oam_mosaic_assets.automation.conditions import conditions_of
from oam_mosaic_assets.core.alerts import Ledger, Message
from oam_mosaic_assets.errors import AlertNotSent

INTERVAL_SECONDS: Final = 60

SENDING_SECONDS: Final = 20.0
"""After this, a tick begins no message more: Dagster ends a tick after a minute, and its cursor is lost."""


class Channel(Protocol):
    """One way to reach people; see `gateways.alerts`."""

    @property
    def name(self) -> str:
        """The name under which the cursor remembers it."""

    def send(self, message: Message) -> str:
        """Send a message; returns a remark for the log.

        Raises:
            AlertNotSent: it reached nobody.
        """


def alerts_sensor(channels: Sequence[Channel], *, ui: str) -> dg.SensorDefinition:
    """The sensor; it starts no run.

    Args:
        channels: at least one.
        ui: the address of Dagster's UI; empty if it is not known.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends one alert when the build fails, when a build is waiting for a person, or when "
        "something is wrong with the public mosaic, and another when that is over.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now = datetime.now(UTC)
        conditions = conditions_of(context.instance, now=now)
        ledger = Ledger.from_text(context.cursor)
        ledger.see(conditions, [channel.name for channel in channels])
        said = [f"{key} since {since:%Y-%m-%d %H:%M} UTC" for key, since in ledger.standing.items()]
        untold = [
            ledger.untold(channel.name, conditions, now=now, ui=ui.removesuffix("/")) for channel in channels
        ]
        end = time.monotonic() + SENDING_SECONDS
        with ThreadPoolExecutor(len(channels)) as at_once:  # or one that is slow to fail keeps others waiting
            outcomes = [*at_once.map(partial(_send, end=end), channels, untold)]
        for channel, (sent, error) in zip(channels, outcomes, strict=True):
            for message, remark in sent:
                ledger.note(channel.name, message)
                context.log.info("%s: %s. %s", channel.name, message.title, remark)
            if isinstance(error, AlertNotSent):
                context.log.error("%s: %s", channel.name, error)
                said.append(f"{error.message} It will be retried.")
            elif error is not None:
                kind = type(error).__name__  # its text may hold a secret
                context.log.error("%s: %s", channel.name, kind)
                said.append(f"{channel.name} failed with {kind}. It will be retried.")
        context.update_cursor(ledger.to_text())
        return dg.SkipReason("; ".join(said) or "All is well.")

    return alerts


def _send(
    channel: Channel, messages: Sequence[Message], *, end: float
) -> tuple[list[tuple[Message, str]], Exception | None]:
    """Send messages until one fails or time is up; returns those sent, with their remarks, and the error."""
    sent: list[tuple[Message, str]] = []
    for message in messages:
        if time.monotonic() > end:
            break
        try:
            sent.append((message, channel.send(message)))
        except Exception as error:  # noqa: BLE001  # a failed tick forgets whom it has told
            return sent, error
    return sent, None
