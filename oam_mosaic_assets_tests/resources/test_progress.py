"""What a run's log says of its progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import pytest

from oam_mosaic_assets.resources.progress import LoggedProgress

LOG = logging.getLogger(__name__)


@pytest.fixture
def progress(caplog: pytest.LogCaptureFixture) -> LoggedProgress:
    caplog.set_level(logging.INFO)
    return LoggedProgress()


def steps(
    monkeypatch: pytest.MonkeyPatch, progress: LoggedProgress, stage: str, shares: Sequence[float], text: str
) -> None:
    """Tell it how far a stage is, once a second."""
    for second, share in enumerate(shares):
        monkeypatch.setattr(time, "monotonic", lambda second=second: 1000.0 + second)
        progress.step(LOG, stage, share, text)


def test_a_stage_says_that_it_begins_soon_how_far_it_is_and_then_now_and_then(
    progress: LoggedProgress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps(monkeypatch, progress, "tiling", [second / 30 for second in range(30)], "a mosaic")
    progress.step(LOG, "publishing", None, "copying")

    assert caplog.messages == [
        "tiling: a mosaic",
        "tiling: 10%, a mosaic",
        "tiling: 43%, a mosaic",
        "tiling: 77%, a mosaic",
        "publishing: copying",
    ]


def test_a_stage_that_gets_nowhere_says_so(
    progress: LoggedProgress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps(monkeypatch, progress, "reading", [0.0] * 4, "images")

    assert caplog.messages == ["reading: images", "reading: 0%, images"]
