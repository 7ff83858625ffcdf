"""`oam-mosaic takedown`: removes an image from everything public or kept, and from later builds."""

from __future__ import annotations

import json
from shlex import quote

from oam_mosaic_assets.cli.releases import announced, releases_of, say
from oam_mosaic_assets.core.footprint import as_id
from oam_mosaic_assets.core.moments import minute
from oam_mosaic_assets.errors import MosaicError, Passing, Refused, SettingsError
from oam_mosaic_assets.gateways.from_settings import catalogue_of
from oam_mosaic_assets.gateways.purge import Purged, purge
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.scratch_folder import folder_in_use
from oam_mosaic_assets.gateways.takedowns import how_to_finish
from oam_mosaic_assets.settings import Settings


def take_down(name: str, *, reason: str, confirm: str | None) -> int:
    """Put an image on the list, publish a mosaic without it, delete what holds it, and check nothing does.

    Args:
        name: the image's id.
        reason: why it is taken down, in the words of a person.
        confirm: why the new build may pass the guards.

    Returns:
        0 if nothing in this place can hold the image any more, even if the build failed; else the build's
        exit code, or 1 if the build succeeded.

    Raises:
        SettingsError: `name` cannot be an id, or no catalogue that may hold it is set.
    """
    from oam_mosaic_assets.cli.build import run_job  # noqa: PLC0415

    if as_id(name) is None:
        raise SettingsError(f"{name!r} cannot be an image's id.", hint="Give the id of the STAC item.")
    settings = Settings.read()
    is_known = _is_known(settings, name)
    releases = releases_of(settings)
    is_new = releases.takedowns.add(name, reason)
    try:
        # the reason is kept on the private list only: everybody who sees the UI sees a run's tags
        code = run_job("global_mosaic", confirm=confirm, is_takedown=True)
        with folder_in_use(settings.mosaic_scratch) as folder:  # for copies of archives
            found = purge(releases, name, folder=folder, say=say)
        if found.is_gone:
            releases.takedowns.mark_gone(name)
    except BaseException:
        say(f"{name} is on the takedown list, but may still be public: run the same command again")
        raise
    may_be_mistyped = is_new and not is_known
    is_held = code == Refused.exit_code and bool(releases.staged.held())
    _report(releases, name, found, is_held=is_held, may_be_mistyped=may_be_mistyped)
    return 0 if found.is_gone else (code or Passing.exit_code)


def _is_known(settings: Settings, name: str) -> bool:
    """Whether the catalogue is known to hold the image; if it is known not to, or is away, that is said."""
    try:
        ids = catalogue_of(settings).ids()
        if ids is None or name in ids:
            return ids is not None
    except MosaicError:  # the run will report it
        say(f"NOTE: the catalogue could not be asked for this id; {_if_mistyped(name)}")
        return False
    if settings.source == "sample":
        raise SettingsError(
            f"No catalogue is set, and the sample holds no image {name!r}.",
            hint="Run this with the settings of the builds: the same catalogue and store.",
        )
    # builds may still show an image that the catalogue has since lost
    say(f"NOTE: the catalogue holds no image with this id; {_if_mistyped(name)}")
    return False


def _if_mistyped(name: str) -> str:
    return f"if you mistyped it, take it off the list: oam-mosaic takedown --undo={quote(name)}"


def _report(releases: Releases, name: str, found: Purged, *, is_held: bool, may_be_mistyped: bool) -> None:
    print(f"{name} is on the takedown list; no later build will show it")  # noqa: T201
    for each in found.deleted:
        print(f"deleted: {each}")  # noqa: T201
    searched = f"{found.searched:,} objects in {releases.store.origin} were read"
    if found.left:
        advice = how_to_finish([name], is_held=True) if is_held else "Fix the cause and run this again"
        is_public = not {*releases.keys.all_fixed()}.isdisjoint(found.left)
        still = "the image is STILL PUBLIC, and" if is_public else "it is"
        print(f"{searched}; {still} still named in {', '.join(found.left)}. {advice}")  # noqa: T201
    elif not found.deleted:
        # an image that is known to be one must stay on the list
        print(f"{searched}; none named it{f': {_if_mistyped(name)}' if may_be_mistyped else ''}")  # noqa: T201
    else:
        what_is_left = "nothing that is left and can be read" if found.unreadable else "nothing that is left"
        print(f"{searched}; {what_is_left} names it")  # noqa: T201
    if found.unreadable:
        print(  # noqa: T201
            f"nothing tells whether it is in {', '.join(found.unreadable)}, which cannot be read. "
            "Delete that if nobody needs it, and run this again"
        )
    if found.unnamed:
        print(  # noqa: T201
            f"nothing tells whether it is in {', '.join(found.unnamed)}, which another machine may be about "
            "to use, or a killed build left. Run this again in an hour"
        )


def list_takedowns(*, as_json: bool) -> int:
    """List what was taken down."""
    releases = announced()
    unfinished = releases.takedowns.unfinished()
    those = [
        {
            "id": each.id,
            "since": each.since,
            "reason": each.reason,
            "gone": each.gone.get(releases.keys.prefix),
        }
        for each in releases.takedowns.all()
    ]
    if as_json:
        print(json.dumps(those, ensure_ascii=False, indent=2))  # noqa: T201
        return 0
    if not those:
        print("nothing has been taken down")  # noqa: T201
        return 0
    rows = [["id", "taken down", "state", "reason"]]
    for each in those:
        if gone := each["gone"]:
            state = f"gone {minute(str(gone))}"
        else:
            state = "not gone yet: run the takedown again" if each["id"] in unfinished else "not shown here"
        rows.append([str(each["id"]), minute(str(each["since"])), state, str(each["reason"])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())  # noqa: T201
    return 0


def undo(name: str) -> int:
    """Take an image off the list: the next build shows it again, if the catalogue still holds it."""
    if not announced().takedowns.remove(name):
        raise SettingsError(
            f"{name!r} is not on the takedown list.", hint="See the list: oam-mosaic takedown --list."
        )
    print(f"{name} is off the takedown list; the next build will show it if the catalogue holds it")  # noqa: T201
    return 0
