"""Sizes as people read them."""

from __future__ import annotations

import pytest

from oam_mosaic_assets.core.sizes import size_in_words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (9_960, "10 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (949_000, "949 kB"),
        (47e6, "47 MB"),
        (25.2e9, "25 GB"),
        (3e12, "3.0 TB"),
    ],
)
def test_sizes_are_readable(size: float, words: str) -> None:
    assert size_in_words(size) == words
