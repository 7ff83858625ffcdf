"""Whether the source of images responds, and has something to draw."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Final

from oam_mosaic_assets.errors import CatalogueUnavailable, MosaicError
from oam_mosaic_assets.gateways import from_settings
from oam_mosaic_assets.gateways.catalogue.source import Catalogue, Unreadable
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State
from oam_mosaic_assets.settings import Settings

MOST_READ: Final = 10_000
"""How many items are read of a file that does not state how many it holds; a second's reading."""

SLOW: Final = 0.25
"""Share of the timeout above which a count is slow: on a busy day it easily takes four times as long."""


def examine_source(settings: Settings) -> Generator[Finding, None, int | None]:
    """Ask the source how many images it has, and a database also what its user is allowed to do.

    Returns:
        How many images it has, or at least how many; None if unknown.
    """
    if settings.source == "pgstac":
        try:
            for each in _database(settings):
                yield each
                if each.is_in_the_way:
                    yield Finding("images", State.UNTRIED, "not counted: the database cannot be read")
                    return None
        except MosaicError as error:
            yield Finding.of("database", error)
            yield Finding("images", State.UNTRIED, "not counted: the database cannot be read")
            return None
    began = time.monotonic()
    try:
        catalogue = from_settings.catalogue_of(settings, patient=False)
        images, text, unreadable = _count(catalogue)
    except MosaicError as error:
        yield _given_up(settings, error) or Finding.of("images", error)
        return None
    if unreadable and unreadable == images:
        yield Finding(
            "images",
            State.WRONG,
            f"{catalogue.origin} holds no STAC items: none of {unreadable:,} lines is a JSON object",
            "Provide STAC items, one JSON object per line, plain or gzipped, or stac-geoparquet.",
        )
        return 0
    yield _judge(settings, images, f"{text} in {catalogue.origin}", seconds=time.monotonic() - began)
    return images


def _count(catalogue: Catalogue) -> tuple[int | None, str, int]:
    """How many images there are, the same in words, and how many of them cannot be read."""
    with catalogue.snapshot() as snapshot:
        if snapshot.expected is not None:
            return snapshot.expected, f"{snapshot.expected:,}", 0
        if catalogue.kind == "stac_api":  # pages are slow
            return None, "an unknown number", 0
        rows = [isinstance(each, Unreadable) for each in islice(snapshot.items(), MOST_READ)]
        images, unreadable = len(rows), sum(rows)
        text = f"{images:,}{' or more' if images == MOST_READ else ''}"
        return images, f"{text} ({unreadable:,} unreadable)" if unreadable else text, unreadable


def _given_up(settings: Settings, error: MosaicError) -> Finding | None:
    """The finding if the database ran out of time here, but is given more in a build."""
    limit, allowed = from_settings.HASTY_STATEMENT_SECONDS, settings.pg_statement_timeout
    if isinstance(error, CatalogueUnavailable) and error.is_out_of_time and limit < allowed:
        return Finding(
            "images",
            State.WARNING,
            f"not counted within {limit} s; a build waits for up to {allowed} s",
            "Find out what keeps the database busy.",
        )
    return None


def _judge(settings: Settings, images: int | None, text: str, *, seconds: float) -> Finding:
    if images == 0:
        return Finding(
            "images",
            State.WRONG,
            f"{text}; an empty catalogue never replaces a mosaic",
            "Check COLLECTION and the source.",
        )
    allowed = settings.pg_statement_timeout
    if settings.source == "pgstac" and seconds > SLOW * allowed:
        return Finding(
            "images",
            State.WARNING,
            f"{text}, counted in {seconds:.1f} s; the limit is {allowed} s",
            "Raise PG_STATEMENT_TIMEOUT, or find out what keeps the database busy.",
        )
    return Finding("images", State.OK, text)


def _database(settings: Settings) -> Iterator[Finding]:
    catalogue = from_settings.pgstac_of(settings, patient=False)
    access = catalogue.access()
    pgstac = f" with pgSTAC {access.pgstac}" if access.pgstac else ""
    yield Finding("database", State.OK, f"{catalogue.database} answers: PostgreSQL {access.postgres}{pgstac}")
    subject = "database user"
    if access.unreadable:
        yield Finding(
            subject,
            State.WRONG,
            f"{access.user} may not read {', '.join(access.unreadable)}",
            f"As the owner of pgSTAC, run: GRANT pgstac_read TO {access.user}",
        )
    elif access.is_superuser or access.writable:
        may = "is a superuser" if access.is_superuser else f"may write to {', '.join(access.writable)}"
        yield Finding(
            subject,
            State.WARNING,
            f"{access.user} {may}, but a build only reads",
            "Use a separate user that has only the role pgstac_read.",
        )
    else:
        yield Finding(subject, State.OK, f"{access.user} may read what a build needs, and change nothing")
