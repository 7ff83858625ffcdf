"""Which alerts are sent, to which channel and how often: the ledger, and each form of a message."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from oam_mosaic_assets.core.alerts import LONGEST, TITLES, Condition, Ledger, Message, plain, trial

BEGAN = datetime(2026, 1, 15, 3, 10, tzinfo=UTC)
NOW = BEGAN + timedelta(hours=2)
EVIL = "<!channel> & <https://evil.test|click>\r\nBcc: all@example.org\x00\x1b[31m\u202e\ud800"


def condition(key: str = "build", *, since: datetime = BEGAN, text: str = "It broke.") -> Condition:
    return Condition(key=key, since=since, text=text, advice="Mend it.", build="b1", run="r1")


def look(
    ledger: Ledger, *conditions: Condition, deaf: frozenset[str] = frozenset()
) -> list[tuple[str, str, str]]:
    """One tick: what each channel was told. `deaf` channels accept no message."""
    told = []
    ledger.see(conditions, ["webhook", "Slack"])
    for channel in ledger.told:
        for message in ledger.untold(channel, conditions, now=NOW):
            if channel not in deaf:
                ledger.note(channel, message)
                told.append((channel, message.event, message.key))
    return told


def both(event: str, key: str = "build") -> list[tuple[str, str, str]]:
    return [("webhook", event, key), ("Slack", event, key)]


def test_a_condition_is_told_once_however_long_it_stands_and_once_when_it_ends() -> None:
    ledger = Ledger()
    assert look(ledger) == []
    assert look(ledger, condition()) == both("opened")
    for minutes in range(5):
        assert look(ledger, condition(since=BEGAN + timedelta(minutes=minutes), text="Another run.")) == []
    assert look(ledger) == both("resolved")
    assert look(ledger) == []
    assert look(ledger, condition()) == both("opened")


def test_a_channel_that_is_down_is_told_later_and_alone() -> None:
    ledger = Ledger()
    assert look(ledger, condition(), deaf=frozenset({"Slack"})) == [("webhook", "opened", "build")]
    assert look(ledger, condition()) == [("Slack", "opened", "build")]
    assert look(ledger, deaf=frozenset({"webhook"})) == [("Slack", "resolved", "build")]
    assert look(ledger) == [("webhook", "resolved", "build")]


def test_what_came_and_went_unheard_is_not_told() -> None:
    ledger = Ledger()
    look(ledger, condition(), deaf=frozenset({"Slack"}))
    assert look(ledger) == [("webhook", "resolved", "build")]


def test_a_condition_began_when_it_was_first_seen_also_for_whom_is_told_late() -> None:
    ledger = Ledger()
    look(ledger, condition(), deaf=frozenset({"Slack"}))
    later = [condition(since=NOW)]
    ledger.see(later, ["Slack"])
    (message,) = ledger.untold("Slack", later, now=NOW)
    assert message.since == BEGAN


def test_ends_are_told_first() -> None:
    ledger = Ledger()
    look(ledger, condition("build"))
    assert look(ledger, condition("held")) == [
        ("webhook", "resolved", "build"),
        ("webhook", "opened", "held"),
        ("Slack", "resolved", "build"),
        ("Slack", "opened", "held"),
    ]


def test_a_new_channel_is_told_what_stands_and_one_that_is_gone_is_forgotten() -> None:
    ledger = Ledger()
    ledger.see([condition()], ["webhook"])
    ledger.note("webhook", *ledger.untold("webhook", [condition()], now=NOW))
    ledger.see([condition()], ["e-mail"])
    assert [message.event for message in ledger.untold("e-mail", [condition()], now=NOW)] == ["opened"]
    assert set(ledger.told) == {"e-mail"}


def test_the_ledger_is_the_same_after_it_was_written_and_read() -> None:
    ledger = Ledger()
    look(ledger, condition(), condition("held"), deaf=frozenset({"Slack"}))
    assert Ledger.from_text(ledger.to_text()) == ledger
    assert Ledger.from_text(ledger.to_text()).to_text() == ledger.to_text()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        "[]",
        "1",
        '{"told": 1}',
        '{"told": {"a": {"build": "soon"}}}',
        '{"standing": [1]}',
        "[" * 100_000,
    ],
    ids=range(9),
)
def test_a_ledger_that_cannot_be_read_is_an_empty_one(text: str | None) -> None:
    assert Ledger.from_text(text) == Ledger()


def test_a_condition_that_an_older_version_told_is_dropped() -> None:
    ledger = Ledger.from_text('{"told": {"webhook": {"gone": "2026-01-15T03:10:00+00:00"}}}')
    ledger.see([], ["webhook"])
    assert ledger.untold("webhook", [], now=NOW) == []


def opened(text: str = "It broke.") -> Message:
    ledger, stands = Ledger(), [condition(text=text)]
    ledger.see(stands, ["webhook"])
    (message,) = ledger.untold("webhook", stands, now=NOW, ui="https://dagster.example.org")
    return message


def test_people_read_what_happened_since_when_what_to_do_and_where_to_look() -> None:
    assert opened().as_text().splitlines() == [
        "The build failed.",
        "Since 2026-01-15 03:10 UTC.",
        "It broke.",
        "What to do: Mend it.",
        "Build: b1",
        "Run: https://dagster.example.org/runs/r1",
    ]


def test_people_read_when_it_ended() -> None:
    message = Message(event="resolved", key="build", since=BEGAN, ended=NOW)
    assert message.as_text().splitlines() == [
        "The build succeeds again.",
        "It began 2026-01-15 03:10 UTC and was over by 2026-01-15 05:10 UTC.",
    ]


def test_programs_read_the_same_as_json() -> None:
    assert json.loads(json.dumps(opened().as_json())) == {
        "event": "opened",
        "condition": "build",
        "title": "The build failed",
        "since": "2026-01-15T03:10:00+00:00",
        "ended": None,
        "text": "It broke.",
        "what_to_do": "Mend it.",
        "build": "b1",
        "run": "r1",
        "link": "https://dagster.example.org/runs/r1",
    }


def test_data_calls_nobody_and_links_nowhere_in_slack() -> None:
    text = opened(EVIL).as_slack()["text"]
    assert "<" not in text
    assert ">" not in text
    assert "&lt;!channel&gt; &amp; &lt;https://evil.test|click&gt;" in text


def test_data_holds_nothing_that_is_no_text_and_stands_in_no_title() -> None:
    message = opened(EVIL)
    assert message.title == "The build failed"
    assert not set("\r\x00\x1b\u202e\ud800") & set(message.as_text())
    message.as_text().encode()


def test_a_text_is_cut_short() -> None:
    assert len(plain("x" * 100_000)) == LONGEST


def test_every_title_is_one_line_of_fixed_words() -> None:
    for began, ended in TITLES.values():
        assert began.isprintable()
        assert ended.isprintable()
    assert trial(NOW).as_text().startswith("This is a test alert.\nSent 2026-01-15 05:10 UTC.")
