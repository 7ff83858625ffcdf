"""`oam-mosaic test-alerts`: whether an alert would reach anybody."""

from __future__ import annotations

from datetime import UTC, datetime

from oam_mosaic_assets.core.alerts import trial
from oam_mosaic_assets.errors import AlertNotSent, SettingsError
from oam_mosaic_assets.gateways.from_settings import channels_of
from oam_mosaic_assets.settings import Settings


def send_test() -> int:
    """Send a test message through each channel and print the outcome; returns 1 if any of them failed."""
    channels = channels_of(Settings.read())
    if not channels:
        raise SettingsError(
            "No alert channel is configured.",
            hint="Set one of ALERT_WEBHOOK_URL, ALERT_SLACK_URL and ALERT_SMTP_URL; see the README.",
        )
    message, failed = trial(datetime.now(UTC)), False
    for channel in channels:
        try:
            remark = channel.send(message)
            outcome = f"sent; {remark}" if remark else "sent"
        except AlertNotSent as error:
            outcome, failed = f"failed. {error.message} What to do: {error.hint}", True
        print(f"{channel.name:<8}  {outcome}", flush=True)  # noqa: T201
    return 1 if failed else 0
