"""The list of what was taken down, shared by all places of a store: what each place has still to do."""

from __future__ import annotations

import json
import shlex

import pytest

from oam_mosaic_assets.cli import main
from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.takedowns import Takedowns, how_to_finish

MAIN = Keys()
TEST, SAMPLE = (MAIN.below(root) for root in ("test/", "sample/"))
NAME = "somebody's garden"
WHY = "a request"


def test_a_takedown_in_one_place_leaves_it_finished_in_others(store: ObjectStore) -> None:
    places = [Takedowns(store, keys) for keys in (MAIN, TEST)]
    for each in places:
        each.add(NAME, WHY)
        assert each.unfinished() == [NAME]
        each.mark_gone(NAME)
    assert [each.unfinished() for each in places] == [[], []]

    places[0].add(NAME, WHY)
    assert [each.unfinished() for each in places] == [[NAME], []], "it is searched for again there"


@pytest.mark.parametrize("name", ["plain", NAME, "-rf", "--undo=$HOME"])
def test_the_command_that_finishes_a_takedown_can_be_pasted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def take_down(image: str, *, reason: str, confirm: str | None) -> int:
        asked.append((image, reason, confirm))
        return 0

    monkeypatch.setattr("oam_mosaic_assets.cli.takedown.take_down", take_down)
    for is_held in (True, False):
        command = shlex.split(how_to_finish([name], is_held=is_held).partition(": ")[2])
        assert (command[0], main(command[1:])) == ("oam-mosaic", 0)
    assert asked == [(name, "REASON", "REASON"), (name, "REASON", None)]
    assert how_to_finish([name], is_held=True).startswith("If the build that waits is as it should be, ")


@pytest.mark.parametrize("sample", [SAMPLE, TEST.below("sample/")])
def test_in_the_place_of_the_sample_only_its_own_images_are_to_go(store: ObjectStore, sample: Keys) -> None:
    main, made_up = (Takedowns(store, keys) for keys in (MAIN, sample))
    main.add(NAME, WHY)
    assert (main.unfinished(), made_up.unfinished()) == ([NAME], [])
    assert made_up.ids() == {NAME}

    made_up.add("made up", WHY)
    assert made_up.unfinished() == ["made up"]
    made_up.mark_gone("made up")
    assert made_up.unfinished() == []


def test_a_list_of_a_version_that_did_not_state_where_is_read(store: ObjectStore) -> None:
    """It may be finished in some places only."""
    stated = {"id": NAME, "reason": WHY, "since": "2026-01-15T03:00:00+00:00", "gone": {TEST.prefix: "then"}}
    store.put_bytes(MAIN.taken_down, json.dumps({"images": [stated]}).encode(), Headers("application/json"))
    assert [Takedowns(store, keys).unfinished() for keys in (MAIN, TEST, SAMPLE)] == [[NAME], [], []]
