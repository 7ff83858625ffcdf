"""Everything that a build needs, checked in one go."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State
from oam_mosaic_assets.gateways.diagnosis.machine import examine_machine, examine_tippecanoe
from oam_mosaic_assets.gateways.diagnosis.probes import NAME
from oam_mosaic_assets.gateways.diagnosis.publication import examine_publication
from oam_mosaic_assets.gateways.diagnosis.room import (
    SCRATCH_SIZES,
    ArchiveSize,
    examine_folder,
    examine_home,
    examine_room,
    examine_store_folder,
)
from oam_mosaic_assets.gateways.diagnosis.source import MOST_READ, examine_source
from oam_mosaic_assets.gateways.from_settings import probed_bucket_of, store_of
from oam_mosaic_assets.settings import SOURCES, Settings
from oam_mosaic_assets.settings.environment import ENV_FILE


def examine(settings: Settings) -> Iterator[Finding]:
    """Check settings, source, store and machine; nothing that this writes is left behind."""
    place = f"s3://{settings.s3_bucket}" if settings.publishes_to_s3 else "a folder"
    in_file = [name for name, where in settings.places.items() if where == ENV_FILE]
    found_in = f"; {ENV_FILE} sets {', '.join(in_file)}" if in_file else ""
    yield Finding("settings", State.OK, f"valid: from {SOURCES[settings.source]} into {place}{found_in}")
    for name in [each for each in settings.places if each not in in_file]:
        yield Finding(
            "settings",
            State.WARNING,
            f"{name} is set in {settings.places[name]}",
            f"To have what {ENV_FILE} says, remove it from the environment (unset {name}).",
        )
    for remark in settings.remarks():
        yield Finding("settings", State.WARNING, remark)
    images = yield from examine_source(settings)
    is_usable, published = yield from _store(settings, images)
    archive = ArchiveSize.expected(published=published, images=images)
    if is_usable and not settings.publishes_to_s3:
        copies = len(("staged", "released", *settings.keys.fixed_archives()))
        yield from examine_room(
            "store room", settings.mosaic_store, archive, archives=copies, setting="MOSAIC_STORE"
        )
    yield examine_tippecanoe(settings.tippecanoe)
    scratch = examine_folder("scratch", settings.mosaic_scratch, setting="MOSAIC_SCRATCH")
    yield scratch
    if not scratch.is_in_the_way:
        yield from examine_room(
            "scratch room",
            settings.mosaic_scratch,
            archive,
            archives=SCRATCH_SIZES,
            setting="MOSAIC_SCRATCH",
        )
    yield examine_home(settings.dagster_home)
    yield examine_machine()


def _store(settings: Settings, images: int | None) -> Generator[Finding, None, tuple[bool, int | None]]:
    """Try out the store, then look at what it holds.

    Args:
        images: how many images the source has, as `examine_source` returns it.

    Returns:
        Whether it can be read, and what `examine_publication` returns.
    """
    keys = settings.keys
    if settings.publishes_to_s3:
        from oam_mosaic_assets.gateways.diagnosis.bucket import BucketExamination  # noqa: PLC0415  # slow to import

        found = list(BucketExamination(probed_bucket_of(settings), keys).findings())
        needed = {"bucket", "bucket: list", "bucket: read"}
    else:
        root = f"{keys.staging_root}{NAME}"
        found = [examine_store_folder(settings.mosaic_store, f"{root}{secrets.token_hex(8)}/probe", root)]
        needed = {"store"}
    yield from found
    if any(each.is_in_the_way and each.subject in needed for each in found):
        yield Finding("public mosaic", State.UNTRIED, "not checked: the store cannot be read")
        return False, None

    def compared(public: Pointer | None) -> Iterator[Finding]:
        for remark in settings.replaces(public):
            yield Finding("source", State.WARNING, remark, "Check that no variable is missing.")
        yield from _shrunk(settings, images, public)

    return True, (yield from examine_publication(store_of(settings), keys, compared))


def _shrunk(settings: Settings, images: int | None, public: Pointer | None) -> Iterator[Finding]:
    """A warning if the source has so few images that a guard will hold the next build back.

    None if that is not known: of a long file only the beginning was read, and in TEST_MODE only the images in
    the box count.
    """
    if not public or not images or images == MOST_READ or settings.test_mode:
        return
    if not public.is_comparable(settings.source):
        return
    from oam_mosaic_assets.core.audit import judge_shrinkage  # noqa: PLC0415  # slow to import

    verdict = judge_shrinkage(
        catalogued=images, before=public.images + public.set_aside, most=settings.max_shrink_share
    )
    if not verdict.passed:
        yield Finding(
            "catalogue",
            State.WARNING,
            f"the next build will wait for a person: {verdict.text}",
            "Check the source. If it is right, confirm then: oam-mosaic publish BUILD --confirm REASON.",
        )
