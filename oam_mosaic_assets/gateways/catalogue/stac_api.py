"""Reading a collection from a STAC API, page by page, for those who cannot reach the database behind it.

No API offers one consistent read. An item committed, changed or removed while the pages are read may or may
not be included, so what can be checked is checked: no item comes twice, none belongs to another collection,
and if fewer come than were announced, they are only a few fewer and the same come again. An API may announce
a number that it counted before some were removed; and one whose paging ends too soon gives the same pages
however often it is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from oam_mosaic_assets.core.shortened import shortened
from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways.catalogue.json_rows import SHOWN_CHARACTERS
from oam_mosaic_assets.gateways.catalogue.source import Holdings, Item, Unreadable

if TYPE_CHECKING:
    from oam_mosaic_assets.gateways.catalogue.stac_api_io import OneHostIO

COLLECTIONS_NAMED: Final = 10

PAGES_WITHOUT_NEWS: Final = 10
"""After this many pages in a row with nothing but known items or those of other collections, the links must
be circular, or the server ignores the query."""

MOST_LACKING: Final = 1 / 50
"""The largest share of the announced items that may have been removed since the API counted them."""

A_FEW: Final = 5
"""As many may have been removed, whatever share of all items they are."""


class StacApiCatalogue:
    """One collection of a STAC API with item search.

    Args:
        url: the landing page, such as `https://api.imagery.hotosm.org/stac`; may hold user and password.
        collection: the collection's id.
        items_per_page: how many are asked for; the server may give fewer.
        timeout_seconds: for connecting, and between two pieces of a response.
        retries: how often a request is retried after a broken connection, or status 408, 429 or 5xx but 501.
        backoff_seconds: half the wait before the second retry; the first is immediate, then waits double.

    Raises:
        CatalogueRefused: `url` cannot be the address of an API.
    """

    kind = "stac_api"

    def __init__(
        self,
        url: str,
        collection: str,
        *,
        items_per_page: int = 500,
        timeout_seconds: float = 60,
        retries: int = 5,
        backoff_seconds: float = 1,
    ) -> None:
        address = _address(url)
        landing = address._replace(netloc=address.netloc.rpartition("@")[2])
        self._landing = landing.geturl()  # as given: with a slash at its end it may be another page
        self._address = landing._replace(path=landing.path.rstrip("/"))
        self._collection = collection
        self._items_per_page = items_per_page
        self._requests: dict[str, Any] = {
            "credentials": (unquote(address.username), unquote(address.password or ""))
            if address.username
            else None,
            "timeout_seconds": timeout_seconds,
            "retries": retries,
            "backoff_seconds": backoff_seconds,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.origin!r})"

    @property
    def origin(self) -> str:
        return f"STAC API {self._address.geturl()}, collection {self._collection}"

    @contextmanager
    def snapshot(self) -> Iterator[StacApiSnapshot]:
        from oam_mosaic_assets.gateways.catalogue.stac_api_io import OneHostIO  # noqa: PLC0415 (slow)

        api = OneHostIO(self._address, **self._requests)
        with closing(api.session):
            yield self._open(api)

    def count(self) -> int | None:
        """How many items there are, if the API says so; counting them would mean reading all pages."""
        with self.snapshot() as snapshot:
            return snapshot.expected

    def ids(self) -> None:
        """None: an API gives them only page by page, together with everything else."""

    def _open(self, api: OneHostIO) -> StacApiSnapshot:
        taken_at = datetime.now(UTC)
        url, method = self._search_link(api)
        self._check_collection(api)
        wanted: dict[str, Any] = {"collections": [self._collection] if method == "POST" else self._collection}
        first = self._understood(lambda: next(api.get_pages(url, method, wanted | {"limit": 1})))
        return StacApiSnapshot(
            taken_at=taken_at,
            expected=_matched(first),
            _collection=self._collection,
            _holdings=lambda: self._holdings(api, url, method),
            _pages=lambda: self._pages(api.get_pages(url, method, wanted | {"limit": self._items_per_page})),
        )

    def _search_link(self, api: OneHostIO) -> tuple[str, str]:
        """Where and how to search: by POST if possible, since caches in between keep the answers to a GET."""
        landing = self._understood(lambda: api.read_json(self._landing))
        links = [link for link in _listed(landing.get("links")) if _mapping(link).get("rel") == "search"]
        by_method = {str(link.get("method", "GET")): link.get("href") for link in links}
        for method in ("POST", "GET"):
            if isinstance(url := by_method.get(method), str):
                return self._joined(self._landing, url), method
        raise self._no_api("its landing page has no link to an item search")

    def _check_collection(self, api: OneHostIO) -> None:
        collections = f"{self._address.geturl()}/collections"
        if api.is_there(f"{collections}/{quote(self._collection, safe='')}"):
            return
        others = _listed(self._understood(lambda: api.read_json(collections)).get("collections"))
        names = [shortened(_mapping(each).get("id")) for each in others[:COLLECTIONS_NAMED]]
        raise CatalogueRefused(
            f"{self._address.geturl()} has no collection {self._collection!r}; available:"
            f" {', '.join(names) or 'none'}",
            hint="Set COLLECTION to one of these.",
        )

    def _holdings(self, api: OneHostIO, url: str, method: str) -> Holdings:
        seen: set[str] = set()
        place, link = f"{self._address.geturl()}/collections", ""
        while True:
            try:
                place = self._joined(place, link)
                page = self._understood(partial(api.read_json, place))
            except CatalogueRefused:  # item search is all that is required of an API
                break
            names = {str(_mapping(each).get("id")) for each in _listed(page.get("collections"))}
            if names <= seen:  # the links go in a circle, or no collection is listed
                break
            seen |= names
            if not (link := _next_page(page)):
                break
        try:
            items = _matched(self._understood(lambda: next(api.get_pages(url, method, {"limit": 1}))))
        except CatalogueRefused:  # a search of all collections is too costly for some APIs
            items = None
        return Holdings(collections=max(1, len(seen)), items=items)

    def _pages(self, pages: Iterator[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
        while page := self._understood(lambda: next(pages, {})):
            yield page

    def _joined(self, page: str, link: str) -> str:
        """Where a link of a page leads."""
        try:
            return urljoin(page, link)
        except ValueError as error:  # brackets without an address in them
            raise self._no_api("one of its links is not an address") from error

    def _understood(self, call: Callable[[], dict[str, Any]]) -> Mapping[str, Any]:
        """Read an answer that may be anything, such as the HTML page of a proxy."""
        try:
            return _mapping(call())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._no_api(f"{type(error).__name__}: {error}") from error

    def _no_api(self, reason: str) -> CatalogueRefused:
        return CatalogueRefused(
            f"{self._address.geturl()} does not answer like a STAC API: {reason}",
            hint="Use the address of its landing page, such as https://api.imagery.hotosm.org/stac.",
        )


@dataclass(slots=True)
class StacApiSnapshot:
    """The pages as they come; see `source.Snapshot`.

    The ids of all items are kept in memory, some 100 bytes each, to detect repeats.

    Attributes:
        expected: how many items the API announced, or how many there were if that proved wrong.
    """

    is_exact: ClassVar[bool] = False

    taken_at: datetime
    expected: int | None
    _collection: str
    _holdings: Callable[[], Holdings]
    _pages: Callable[[], Iterator[Mapping[str, Any]]]

    def watermark(self) -> None:
        return None

    def holdings(self) -> Holdings:
        return self._holdings()

    def items(self) -> Iterator[Item | Unreadable]:
        seen: set[str] = set()
        read = 0
        for row, feature in self._features(seen):
            read += 1
            yield feature if isinstance(feature, dict) else Unreadable(row, repr(feature)[:SHOWN_CHARACTERS])
        if self.expected is not None and read < self.expected:
            if self.expected - read > max(A_FEW, self.expected * MOST_LACKING):
                raise CatalogueUnavailable(
                    f"the STAC API announced {self.expected} items but its pages end after {read}",
                    hint="If many were just removed, run again once it counts anew; if not, report it to the"
                    " operators of the API.",
                )
            again: set[str] = set()
            if sum(1 for _ in self._features(again)) != read or again != seen:
                raise CatalogueUnavailable(
                    f"the STAC API announced {self.expected} items but returned {read}, and others when asked"
                    " again",
                    hint="The catalogue changed while it was read, or pages were lost; run again.",
                )
            logging.getLogger(__name__).warning(
                "the STAC API announced %s items but twice returned the same %s; these are taken for all",
                self.expected,
                read,
            )
            self.expected = read

    def _features(self, seen: set[str]) -> Iterator[tuple[int, Any]]:
        """What the pages hold of this collection, each with its row; ids are noted, and come once."""
        ours = (None, self._collection)
        rows = without_news = 0
        for page in self._pages():
            known = len(seen)
            for feature in _listed(page.get("features")):
                rows += 1
                if not isinstance(feature, dict):
                    yield rows, feature
                    continue
                name = feature.get("id")
                is_repeated = isinstance(name, str) and name in seen  # other ids may not be hashable
                if is_repeated or feature.get("collection") not in ours:
                    continue
                if isinstance(name, str):
                    seen.add(name)
                yield rows, feature
            without_news = 0 if len(seen) > known else without_news + 1
            if without_news == PAGES_WITHOUT_NEWS:
                raise CatalogueUnavailable(
                    f"the STAC API repeats itself: {PAGES_WITHOUT_NEWS} pages in a row held no new items of"
                    f" {self._collection!r}",
                    hint="Run again; if it happens again, report it to the operators of the API.",
                )


def _address(url: str) -> SplitResult:
    """Parse an address.

    An unescaped character in the password makes the rest of it part of the path; so anything that looks like
    that is refused, and none of it is shown.
    """
    with suppress(ValueError):  # a port that is not a number
        address = urlsplit(url)
        whole = address.scheme in {"http", "https"} and address.hostname and address.port != 0
        if whole and "@" not in address.path and not address.query and not address.fragment:
            return address
    raise CatalogueRefused(
        "the address of the STAC API cannot be parsed",
        hint="Use the address of its landing page, such as https://api.imagery.hotosm.org/stac, and write"
        " special characters in a password as %XX (@ is %40, / is %2F).",
    )


def _matched(page: Mapping[str, Any]) -> int | None:
    """How many items there are on all pages, if the API says so."""
    matched = page.get("numberMatched", _mapping(page.get("context")).get("matched"))
    return matched if isinstance(matched, int) else None


def _next_page(page: Mapping[str, Any]) -> str:
    """The link to the next page; empty if there is none."""
    links = (_mapping(each) for each in _listed(page.get("links")))
    found = [
        href for each in links if each.get("rel") == "next" and isinstance(href := each.get("href"), str)
    ]
    return found[0] if found else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
