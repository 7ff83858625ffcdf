"""What people are told: one alert when a condition begins, and one when all is well again.

- `Condition`: what is wrong now.
- `Ledger`: what stands since when, and which channel was told; kept as text between two looks.
- `Message`: what a channel is told, as JSON, as Slack's text, and as a letter.

What a condition says may quote the catalogue and other servers: it is cut short, rid of control characters,
and stands in no subject.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

Event = Literal["opened", "resolved", "test"]

TITLES: Final[Mapping[str, tuple[str, str]]] = {
    "build": ("The build failed", "The build runs through again"),
    "held": ("A build waits for a person", "No build waits for a person any more"),
    "freshness": ("The public mosaic is not as it should be", "The public mosaic is as it should be again"),
    "test": ("This is a test of the alerts", ""),
}
"""The conditions, and what is said when each begins and ends; in fixed words, for these become subjects."""

LONGEST: Final = 2000
"""Characters of a text that are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is wrong now.

    Attributes:
        key: one of `TITLES`.
        since: when it began, UTC.
        text: what happened.
        advice: what to do about it.
        build: the build's name; empty where it has none yet.
        run: Dagster's id of the run that found it; empty where none did.
    """

    key: str
    since: datetime
    text: str
    advice: str
    build: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel is told.

    Attributes:
        event: a condition began, or ended, or neither.
        key: of the condition.
        since: when it began, UTC.
        ended: when it was seen to have ended; None where it stands.
        link: the run's page in Dagster's UI; empty where its address is not known.
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
        """Fixed words."""
        began, ended = TITLES[self.key]
        return ended if self.event == "resolved" else began

    def as_json(self) -> dict[str, Any]:
        """For programs; a field that is not known is null."""
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
        """For Slack's incoming webhooks and what understands them; data calls no one and links nowhere."""
        escaped = self.as_text().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return {"text": escaped, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}

    def as_text(self) -> str:
        """For people."""
        times = f"Since {_minute(self.since)}"
        if self.ended:
            times = f"It began {_minute(self.since)} and was seen to have ended {_minute(self.ended)}"
        facts = [
            f"{times}." if self.event != "test" else f"Sent {_minute(self.since)}.",
            self.text,
            self.advice and f"What to do: {self.advice}",
            self.build and f"Build: {self.build}",
            (self.link or self.run) and f"Run: {self.link or self.run}",
        ]
        return "\n".join([f"{self.title}.", *filter(None, facts)])


@dataclass(slots=True)
class Ledger:
    """What is remembered between two looks.

    Attributes:
        standing: when each condition that stands began.
        told: for each channel, the conditions that it knows to have begun and not to have ended.
    """

    standing: dict[str, datetime] = field(default_factory=dict)
    told: dict[str, dict[str, datetime]] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str | None) -> Ledger:
        """Read it; what cannot be read is forgotten, so that what stands is told once more."""
        try:
            stated = json.loads(text or "{}")
            standing = _times(stated.get("standing", {}))
            return cls(standing, {name: _times(times) for name, times in stated.get("told", {}).items()})
        except (ValueError, TypeError, AttributeError, RecursionError):
            return cls()

    def to_text(self) -> str:
        """Write it; the same ledger is always the same text."""
        written = {
            "standing": _texts(self.standing),
            "told": {name: _texts(times) for name, times in self.told.items()},
        }
        return json.dumps(written, sort_keys=True)

    def see(self, conditions: Iterable[Condition], channels: Iterable[str]) -> None:
        """Note what stands now. A channel that is no longer there is forgotten."""
        self.standing = {each.key: self.standing.get(each.key, each.since) for each in conditions}
        self.told = {name: self.told.get(name, {}) for name in channels}

    def untold(
        self, channel: str, conditions: Iterable[Condition], *, now: datetime, ui: str = ""
    ) -> list[Message]:
        """What a channel is yet to be told, ends first.

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
        """Remember that a channel was told."""
        if message.event == "opened":
            self.told[channel][message.key] = message.since
        else:
            self.told[channel].pop(message.key, None)


def trial(now: datetime) -> Message:
    """What is sent to see whether it arrives."""
    return Message(event="test", key="test", since=now, text="Nothing is wrong, and nothing is to be done.")


def plain(text: str) -> str:
    """Without characters that are none, such as control characters, and cut short."""
    clean = "".join("\ufffd" if unicodedata.category(c)[0] == "C" and c != "\n" else c for c in text)
    return clean if len(clean) <= LONGEST else f"{clean[: LONGEST - 1]}…"


def _minute(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _times(texts: Mapping[str, str]) -> dict[str, datetime]:
    times = {key: datetime.fromisoformat(text) for key, text in texts.items()}
    return {key: time if time.tzinfo else time.replace(tzinfo=UTC) for key, time in times.items()}


def _texts(times: Mapping[str, datetime]) -> dict[str, str]:
    return {key: time.isoformat() for key, time in times.items()}
