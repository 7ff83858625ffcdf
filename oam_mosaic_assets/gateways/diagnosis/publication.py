"""What a publisher would find in the store: a mosaic, another publisher's lock, somebody else's objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from datetime import UTC, datetime

from oam_mosaic_assets.core.moments import minute
from oam_mosaic_assets.core.release import Keys, Pointer
from oam_mosaic_assets.errors import MosaicError
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.gateways.ownership import foreign_objects
from oam_mosaic_assets.gateways.publisher_lock import holder_of
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.takedowns import how_to_finish, not_gone


def examine_publication(
    store: ObjectStore, keys: Keys, compared: Callable[[Pointer | None], Iterable[Finding]] = lambda _: ()
) -> Generator[Finding, None, int | None]:
    """What is public, who is publishing right now, and what holds up the next publication.

    Args:
        compared: warnings about what the next build does to what is public.

    Returns:
        Bytes of all public products together; None where there are none, or the store failed.
    """
    try:
        releases = Releases(store, keys)
        current = releases.current()
        pointer = current[0] if current else None
        text = ""
        if pointer is not None:
            since = minute(pointer.published_at)
            text = f"{pointer.build} with {pointer.images:,} images, public since {since}"
        differences = releases.differences(pointer)
        if differences:
            yield Finding(
                "public mosaic",
                State.WARNING,
                "; but ".join(filter(None, (text, "; ".join(differences)))),
                "The next build repairs this; check who else writes to this place.",
            )
        else:
            yield Finding("public mosaic", State.OK, text or "none yet: the first build will create it")
        yield from compared(pointer)
        yield from _waiting(releases)
        yield _lock(store, keys)
        yield from _foreign(store, keys, pointer.etags if pointer else ())
    except MosaicError as error:
        yield Finding.of("public mosaic", error)
        return None
    return sum(each["bytes"] for each in pointer.products.values()) or pointer.size if pointer else None


def _waiting(releases: Releases) -> Iterator[Finding]:
    if hold := releases.holds.present():
        yield Finding("hold", State.WRONG, str(hold), "Builds are refused until `oam-mosaic resume`.")
    held, finish = releases.staged.held(), ""
    try:
        if unfinished := releases.takedowns.unfinished():
            finish = how_to_finish(unfinished, is_held=bool(held))
            yield Finding("takedown", State.WARNING, not_gone(unfinished), finish)
    except MosaicError as error:
        yield Finding.of("takedown", error)
    for build in held:
        why = releases.staged.why_held(build) or "a guard held it back"
        yield Finding(
            "held build",
            State.WARNING,
            f"{build} waits for a person: {why}",
            finish or f"If it is as it should be, confirm it: oam-mosaic publish {build} --confirm REASON.",
        )


def _lock(store: ObjectStore, keys: Keys) -> Finding:
    subject, holder = "publisher's lock", holder_of(store, keys.lock)
    if holder is None:
        return Finding(subject, State.OK, "nobody is publishing")
    since = f" since {holder.since}" if holder.since else ""
    if holder.until <= datetime.now(UTC):
        text = f"left by {holder.build}, expired {minute(holder.until)}; the next build takes it"
        return Finding(subject, State.OK, text)
    return Finding(
        subject,
        State.WARNING,
        f"held for {holder.build}{since}; any other build waits until it is released",
        "Nothing needs to be done: it is released when its holder ends, or two minutes after it is killed.",
    )


def _foreign(store: ObjectStore, keys: Keys, ours: Collection[str]) -> Iterator[Finding]:
    found = list(foreign_objects(store, keys, keys.all_fixed(), written_before=ours))
    for each in found:
        yield Finding(
            "foreign objects",
            State.WARNING,
            f"{each.key} holds {each.size:,} bytes that no build wrote ({each.written_at:%Y-%m-%d}); "
            "a build keeps a copy and waits for a person",
            "If it may be replaced, confirm that then: oam-mosaic publish BUILD --confirm REASON.",
        )
    if not found:
        yield Finding("foreign objects", State.OK, "none under the fixed keys")
