"""If nothing changed, what is public is what a build would make, so only the check is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from oam_mosaic_assets.core.product import JSON
from oam_mosaic_assets.core.release import Pointer, is_build_name
from oam_mosaic_assets.gateways.imagery_mosaic import ImageryMosaic
from oam_mosaic_assets.gateways.last_build import stated_of_imagery
from oam_mosaic_assets.gateways.read_back import Expected
from oam_mosaic_assets.gateways.releases import Releases


def note_unchanged(
    releases: Releases,
    basis: str,
    *,
    imagery: ImageryMosaic | None = None,
    taken_at: datetime,
    say: Callable[[str], None],
) -> Pointer | None:
    """Record in the pointer that the mosaic agreed with the catalogue at that moment, if it did.

    Args:
        basis: what a build would be made from; see `Watch.basis`.
        imagery: what other machines may have read since; None if it is no product.
        taken_at: when the catalogue was looked at, UTC.
        say: called if it has to wait for another publisher.

    Returns:
        The new pointer; None if a build is needed: something changed, there is more imagery to show, the
        public objects are not what was published, or something is staged, which the next publication sweeps
        up.

    Raises:
        PublicationLost: a publisher is at work.
    """
    if not _is_current(releases, basis, imagery):
        return None
    with releases.lock("a check of the catalogue").held(say):
        before = releases.current()
        if before is None or before[0].basis != basis:
            return None
        seen = max(taken_at, datetime.fromisoformat(before[0].checked_at))
        pointer = replace(before[0], checked_at=seen.isoformat())
        releases.public.turn_pointer(pointer, before)
        releases.public.read_back(releases.keys.pointer, Expected.whole(pointer.to_json(), JSON))
    return pointer


def _is_current(releases: Releases, basis: str, imagery: ImageryMosaic | None) -> bool:
    """Whether a build would change nothing, and no killed one left anything for it to sweep up."""
    current = releases.current()
    if not (basis and current and current[0].basis == basis):
        return False
    if releases.differences(current[0]):
        return False
    if imagery is not None and imagery.has_more(stated_of_imagery(releases, current[0].build)):
        return False
    # what is no build, such as the probe of a killed `doctor`, no publication sweeps up either
    return not any(is_build_name(build) for build, _ in releases.staged.objects())
