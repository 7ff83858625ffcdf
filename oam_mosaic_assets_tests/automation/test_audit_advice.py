"""What the UI tells a maintainer to do about a failed check."""

from __future__ import annotations

import pytest

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.resources import auditor
from oam_mosaic_assets_tests.automation.conftest import IMAGES
from oam_mosaic_assets_tests.chain import Site, some_items, write_items


def write_flawed_catalogue(site: Site, images: int) -> None:
    """A catalogue with one image that cannot be drawn."""
    write_items(site.items, [*some_items(images), {**some_items(1, first=images)[0], "geometry": None}])


def test_a_guards_no_names_the_command_that_lets_the_build_pass(site: Site) -> None:
    write_flawed_catalogue(site, IMAGES)
    outcome = site.run({"MAX_SET_ASIDE_SHARE": "0"})
    assert outcome.failed_checks.keys() == {"few_images_are_set_aside"}
    assert outcome.metadata["what to do"] == (
        f"If this is as it should be, confirm it: oam-mosaic publish {outcome.build} --confirm REASON"
    )


def test_no_command_is_named_where_the_archive_is_wrong_as_well(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> list[Verdict]:
        return [Verdict.failing(name, "broken") for name in audit.CHECKS if name not in audit.GUARDS]

    write_flawed_catalogue(site, IMAGES + 1)
    monkeypatch.setattr(auditor, "examine", broken)
    outcome = site.run({"MAX_SET_ASIDE_SHARE": "0"})
    assert "few_images_are_set_aside" in outcome.failed_checks
    assert "Fix the cause and build again" in outcome.metadata["what to do"]
    assert "oam-mosaic publish" not in repr(site.instance.all_logs(outcome.run_id))
