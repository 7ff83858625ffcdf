"""The alerts that people get: one when a condition starts, and one when it is over.

- `Condition`: what is wrong now.
- `Ledger`: active conditions, their start, and which channels were told; stored as text between checks.
- `Message`: what a channel is sent, as JSON, as text for Slack, and as plain text for e-mail.

The text of a condition may quote the catalogue and other servers, so it is truncated, its control characters
are replaced, and it never appears in a subject.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from oam_mosaic_assets.core.moments import minute

Event = Literal["opened", "resolved", "test"]

TITLES: Final[Mapping[str, tuple[str, str]]] = {
    "build": ("The build failed", "The build succeeds again"),
    "held": ("A build is waiting for a person", "No build is waiting for a person any more"),
    "freshness": ("Something is wrong with the public mosaic", "The public mosaic is in order again"),
    "test": ("This is a test alert", ""),
}
"""The conditions, with titles for their start and end; in fixed words, because they become subjects."""

LONGEST: Final = 2000
"""The most characters of a text that are sent; longer ones are truncated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is wrong now.

    Attributes:
        key: one of `TITLES`.
        since: when it began, UTC.
        text: what happened.
        advice: what to do about it.
        build: the build's name; empty if it has none yet.
        run: Dagster's id of the run that found it; empty if none did.
    """

    key: str
    since: datetime
    text: str
    advice: str
    build: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One alert, as sent to a channel.

    Attributes:
        event: whether a condition started or ended, or this is a test.
        key: of the condition.
        since: when it began, UTC.
        ended: when it was found to be over; None while it is active.
        link: the run's page in Dagster's UI; empty if the UI's address is not known.
    """

    event: Event
    key: str
    since: datetime
    ended: datetime | None = None
    text: str = ""
    advice: str = ""
    build: str = ""
    run: str = ""
    link: str = ""

    @property
    def title(self) -> str:
        """The subject, in fixed words."""
        began, ended = TITLES[self.key]
        return ended if self.event == "resolved" else began

    def as_json(self) -> dict[str, Any]:
        """For programs; unknown fields are null."""
        stated = {
            "text": self.text,
            "what_to_do": self.advice,
            "build": self.build,
            "run": self.run,
            "link": self.link,
        }
        return {
            "event": self.event,
            "condition": self.key,
            "title": self.title,
            "since": self.since.isoformat(timespec="seconds"),
            "ended": self.ended.isoformat(timespec="seconds") if self.ended else None,
            **{name: value or None for name, value in stated.items()},
        }

    def as_slack(self) -> dict[str, Any]:
        """For Slack's incoming webhooks and compatible ones; quoted data can neither ping anyone nor link."""
        escaped = self.as_text().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return {"text": escaped, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}

    def as_text(self) -> str:
        """For people."""
        times = f"Since {minute(self.since)}"
        if self.ended:
            times = f"It began {minute(self.since)} and was over by {minute(self.ended)}"
        facts = [
            f"{times}." if self.event != "test" else f"Sent {minute(self.since)}.",
            self.text,
            self.advice and f"What to do: {self.advice}",
            self.build and f"Build: {self.build}",
            (self.link or self.run) and f"Run: {self.link or self.run}",
        ]
        return "\n".join([f"{self.title}.", *filter(None, facts)])


@dataclass(slots=True)
class Ledger:
    """What is remembered between two checks.

    Attributes:
        standing: when each active condition began.
        told: for each channel, the conditions whose start it was told but not yet their end.
    """

    standing: dict[str, datetime] = field(default_factory=dict)
    told: dict[str, dict[str, datetime]] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str | None) -> Ledger:
        """Read a stored ledger; an unreadable one counts as empty, so active conditions are sent again."""
        try:
            stated = json.loads(text or "{}")
            standing = _times(stated.get("standing", {}))
            return cls(standing, {name: _times(times) for name, times in stated.get("told", {}).items()})
        except (ValueError, TypeError, AttributeError, RecursionError):
            return cls()

    def to_text(self) -> str:
        """The ledger as text; equal ledgers give equal text."""
        written = {
            "standing": _texts(self.standing),
            "told": {name: _texts(times) for name, times in self.told.items()},
        }
        return json.dumps(written, sort_keys=True)

    def see(self, conditions: Iterable[Condition], channels: Iterable[str]) -> None:
        """Record which conditions are active, and forget channels that are no longer configured."""
        self.standing = {each.key: self.standing.get(each.key, each.since) for each in conditions}
        self.told = {name: self.told.get(name, {}) for name in channels}

    def untold(
        self, channel: str, conditions: Iterable[Condition], *, now: datetime, ui: str = ""
    ) -> list[Message]:
        """The messages that a channel has not been sent yet; resolved conditions first.

        Args:
            ui: the address of Dagster's UI.
        """
        told = self.told[channel]
        ended = [
            Message(event="resolved", key=key, since=since, ended=now)
            for key, since in told.items()
            if key not in self.standing and key in TITLES
        ]
        begun = [
            Message(
                event="opened",
                key=each.key,
                since=self.standing[each.key],
                text=plain(each.text),
                advice=plain(each.advice),
                build=plain(each.build),
                run=each.run,
                link=f"{ui}/runs/{each.run}" if ui and each.run else "",
            )
            for each in conditions
            if each.key not in told
        ]
        return [*ended, *begun]

    def note(self, channel: str, message: Message) -> None:
        """Record that a channel was sent a message."""
        if message.event == "opened":
            self.told[channel][message.key] = message.since
        else:
            self.told[channel].pop(message.key, None)


def trial(now: datetime) -> Message:
    """A test message, sent to see whether it arrives."""
    return Message(event="test", key="test", since=now, text="Nothing is wrong, and there is nothing to do.")


def plain(text: str) -> str:
    """The text, truncated, its control and other non-printing characters (but newline) replaced by U+FFFD."""
    clean = "".join("\ufffd" if unicodedata.category(c)[0] == "C" and c != "\n" else c for c in text)
    return clean if len(clean) <= LONGEST else f"{clean[: LONGEST - 1]}…"


def _times(texts: Mapping[str, str]) -> dict[str, datetime]:
    times = {key: datetime.fromisoformat(text) for key, text in texts.items()}
    return {key: time if time.tzinfo else time.replace(tzinfo=UTC) for key, time in times.items()}


def _texts(times: Mapping[str, datetime]) -> dict[str, str]:
    return {key: time.isoformat() for key, time in times.items()}
