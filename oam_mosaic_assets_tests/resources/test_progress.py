"""What a run's log says of its progress."""

from __future__ import annotations

import logging
import time

import pytest

from oam_mosaic_assets.resources.progress import LoggedProgress

LOG = logging.getLogger(__name__)


def test_a_stage_says_that_it_begins_soon_how_far_it_is_and_then_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = LoggedProgress()
    for second in range(30):
        monkeypatch.setattr(time, "monotonic", lambda second=second: 1000.0 + second)
        progress.step(LOG, "tiling", second / 30, "a mosaic")
    progress.step(LOG, "publishing", None, "copying")

    assert caplog.messages == [
        "tiling: a mosaic",
        "tiling: 10%, a mosaic",
        "tiling: 43%, a mosaic",
        "tiling: 77%, a mosaic",
        "publishing: copying",
    ]


def test_a_stage_that_gets_nowhere_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = LoggedProgress()
    for second in range(4):
        monkeypatch.setattr(time, "monotonic", lambda second=second: 1000.0 + second)
        progress.step(LOG, "reading", 0.0, "images")

    assert caplog.messages == ["reading: images", "reading: 0%, images"]
