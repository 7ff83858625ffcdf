"""Making an earlier build public again, with a hold so that no later one replaces it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oam_mosaic_assets.core.artifact import sha256_of
from oam_mosaic_assets.core.history import Release, one_before
from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.product import PMTILES
from oam_mosaic_assets.core.release import TILEJSON, Keys, Pointer
from oam_mosaic_assets.errors import MosaicError, RollbackRefused
from oam_mosaic_assets.gateways.history import read_releases
from oam_mosaic_assets.gateways.ownership import keep_foreign
from oam_mosaic_assets.gateways.public_keys import Part
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock
from oam_mosaic_assets.gateways.read_back import Expected
from oam_mosaic_assets.gateways.releases import Releases


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """A release that was read, and is what its manifest says."""

    pointer: Pointer
    parts: list[Part]
    described: dict[str, Any]


def roll_back(
    releases: Releases,
    build: str | None,
    *,
    reason: str,
    folder: Path,
    say: Callable[[str], None],
    warn: Callable[[str], None] = lambda _: None,
) -> tuple[Pointer, str]:
    """Make an earlier build public, and hold publication; or leave everything as it is.

    Args:
        build: its name; None for the one that was public before. The public one only if something public is
            not as it was published. Without a name, a rollback for the same reason as that to the public
            one is its repetition, as it may have been killed at its end: it goes no further back.
        reason: a person's, for the hold.
        folder: empty, for a copy of each of its products.
        say: called with what is being done.
        warn: called with what went wrong once everything was public.

    Returns:
        The new pointer, and the build that was public.

    Raises:
        RollbackRefused: there is no such build, or it cannot be made public; names the ones available.
        PublicationLost: another publisher is at work.
        NotAsPublished: the public address does not answer with what was written.
    """
    public = releases.public
    with releases.lock(build or "a rollback").held(say) as lock:
        before = public.current()
        there = read_releases(releases.store, releases.keys)
        if before is None:
            lost = releases.differences(None) or ["Nothing has been published here yet"]
            raise RollbackRefused(
                f"{lost[0]}. Nothing public has changed.", hint="Publish a new build: oam-mosaic build."
            )
        is_repeated = build is None and releases.holds.gives(_why(before[0].build, reason))
        if is_repeated:
            build = before[0].build
        is_shown_again = build == before[0].build and bool(releases.differences(before[0]))
        if is_repeated and not is_shown_again:
            say(f"{build} is public already, for the same reason; to go further back, name a build")
            public.see(before[0], warn)
            return before[0], _left_for(before[0].build, there)
        target = _target(build, "" if is_shown_again else before[0].build, there)
        others = [each for each in there if each.build not in {target.build, before[0].build}]
        found = _without_taken_keys(releases.keys, _whole(releases, target, others, folder), say)
        lock.renew()
        keep_foreign(
            releases.store,
            releases.keys,
            releases.keys.fixed_of(each.name for each in found.parts),
            written_before=before[0].etags,
            confirmed=reason,
            say=say,
        )
        with (
            _held_or_as_before(
                releases, lock, _why(target.build, reason), before[0].build, target.build, say
            ),
            public.or_as_before(found.parts, before, lock),
        ):
            stated = before[0] if is_shown_again else found.pointer  # it may have been checked since
            stated = replace(stated, products=found.pointer.products)
            pointer = public.turn(found.parts, found.described, stated, before, lock, say)
        public.see(pointer, warn)
    say(f"{target.build} is public again at {releases.store.public_address(releases.keys.archive)}")
    return pointer, before[0].build


def _why(build: str, reason: str) -> str:
    """The hold's reason after a rollback to this build."""
    return f"a rollback to {build}: {reason}"


def _left_for(public: str, there: Sequence[Release]) -> str:
    """The newest build from which a rollback leads to the public one; if there is none, that one itself."""
    return next((each.build for each in there if one_before(each.build, there) == public), public)


@contextmanager
def _held_or_as_before(
    releases: Releases,
    lock: PublisherLock,
    reason: str,
    public: str,
    target: str,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Place the hold first: if this were killed once the pointer is turned, the next build would undo it.

    If the rollback fails, the earlier hold is restored. The new one stays if the target is public after all,
    as only the answer was lost, and if the lock was lost, as it may be another person's as well by now.
    """
    before = releases.holds.present()
    try:
        releases.holds.place(reason)
        yield
    except BaseException:
        stays = True
        with suppress(MosaicError):  # the first failure must be seen
            lock.renew()
            current = releases.current()
            if current is None or current[0].build != target or target == public:
                releases.holds.put_back(before)
                stays = False
        if stays:
            say(f"{target} may be public nevertheless, and publication stays held: see `oam-mosaic status`")
        raise


def _target(build: str | None, public: str, there: Sequence[Release]) -> Release:
    wanted = build or one_before(public, there)
    others = [each for each in there if each.build != public]
    if not wanted:
        raise _refused(f"There is no build left that was public before {public}", others)
    if wanted == public:
        raise _refused(f"{wanted} is already public", others)
    found = next((each for each in others if each.build == wanted), None)
    if found is None:
        raise _refused(f"There is no build {wanted}", others)
    return found


def _whole(releases: Releases, target: Release, others: Sequence[Release], folder: Path) -> _Whole:
    store, keys, build = releases.store, releases.keys, target.build
    if target.pointer is None:
        raise _refused(f"{build} is not intact: its manifest cannot be read", others)
    parts = [_part(releases, target.pointer, name, others, folder) for name in target.pointer.released]
    document = store.get_bytes(keys.release(build, TILEJSON))
    try:
        described = releases.public.described_here(document[0]) if document else None
    except (ValueError, TypeError, RecursionError):
        described = None
    if described is None:
        raise _refused(f"{build} is not intact: its TileJSON is gone or cannot be read", others)
    return _Whole(pointer=target.pointer, parts=parts, described=described)


def _without_taken_keys(keys: Keys, found: _Whole, say: Callable[[str], None]) -> _Whole:
    """Leave out products whose key the settings have given to another one since: one key cannot show both."""
    products, parts = dict(found.pointer.products), []
    for each in found.parts:
        others = {key: keys.product_at(key) for key in keys.fixed(each.name)}
        taken = next((key for key, name in others.items() if name != each.name), None)
        if taken is None:
            parts.append(each)
        else:
            say(f"leaving out {each.name}: by the settings, {taken} is a key of {others[taken]}")
            del products[each.name]
    return replace(found, pointer=replace(found.pointer, products=products), parts=parts)


def _part(releases: Releases, pointer: Pointer, name: str, others: Sequence[Release], folder: Path) -> Part:
    """A product of a release, read whole and checked."""
    key, path = pointer.released[name], folder / "released"
    stated = pointer.products.get(name, {"sha256": pointer.sha256, "content_type": PMTILES})
    stored = releases.store.get_file(key, path)
    if stored is None:
        raise _refused(f"{pointer.build} is not intact: {key} is gone", others)
    if sha256_of(path) != stated["sha256"]:
        raise _refused(f"{pointer.build} is not intact: {key} is not what its manifest says", others)
    taken_down = releases.takedowns.ids()
    if taken_down and names_any(path, taken_down, is_ours=True):
        raise _refused(f"{pointer.build} shows an image that has been taken down since", others)
    expected = Expected.of_file(path, stated["content_type"])
    path.unlink()
    return Part(name=name, stored=stored, expected=expected)


def _refused(what: str, others: Sequence[Release]) -> RollbackRefused:
    names = ", ".join(each.build for each in others)
    advice = f"Name another build: {names}." if names else "There is no other build to go back to."
    return RollbackRefused(f"{what}. Nothing public has changed.", hint=f"{advice} See oam-mosaic releases.")
