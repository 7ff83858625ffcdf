"""Reading a collection from a STAC API, page by page, for those who cannot reach the database behind it.

No API offers one consistent read. An item committed, changed or removed while the pages are read may be
there or not, so what can be checked is checked: no item comes twice, none is another collection's, and none
of those announced is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways.catalogue.json_rows import SHOWN_CHARACTERS
from oam_mosaic_assets.gateways.catalogue.source import Holdings, Item, Unreadable

if TYPE_CHECKING:
    from oam_mosaic_assets.gateways.catalogue.stac_api_io import OneHostIO

COLLECTIONS_NAMED: Final = 10

PAGES_WITHOUT_NEWS: Final = 10
"""So many pages in a row that hold only what was seen already or is another collection's: the links lead in
a circle, or nobody minds what was asked for."""


class StacApiCatalogue:
    """One collection of a STAC API with item search.

    Args:
        url: of the landing page, such as `https://api.imagery.hotosm.org/stac`; may hold user and password.
        collection: the collection's id.
        items_per_page: what is asked for; the server may give fewer.
        timeout_seconds: for connecting, and between two pieces of an answer.
        retries: how often a request is repeated that met a broken connection, or status 429 or 5xx.
        backoff_seconds: the wait before the second repetition; it doubles each time.

    Raises:
        CatalogueRefused: no address of an API.
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
        """How many items there are, where the API says so: to count them all pages would have to be read."""
        with self.snapshot() as snapshot:
            return snapshot.expected

    def ids(self) -> None:
        """None: an API gives them only page by page, with all the rest."""

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
        """Where and how to search: by POST if possible, since caches on the way keep what answers a GET."""
        landing = self._understood(lambda: api.read_json(self._landing))
        links = [link for link in _listed(landing.get("links")) if _mapping(link).get("rel") == "search"]
        by_method = {str(link.get("method", "GET")): link.get("href") for link in links}
        for method in ("POST", "GET"):
            if isinstance(url := by_method.get(method), str):
                return url, method
        raise self._no_api("its landing page has no link to an item search")

    def _check_collection(self, api: OneHostIO) -> None:
        collections = f"{self._address.geturl()}/collections"
        if api.is_there(f"{collections}/{quote(self._collection, safe='')}"):
            return
        others = _listed(self._understood(lambda: api.read_json(collections)).get("collections"))
        names = [str(_mapping(each).get("id")) for each in others[:COLLECTIONS_NAMED]]
        raise CatalogueRefused(
            f"{self._address.geturl()} has no collection {self._collection!r}; there are:"
            f" {', '.join(names) or 'none'}",
            hint="Set COLLECTION to one of these.",
        )

    def _holdings(self, api: OneHostIO, url: str, method: str) -> Holdings:
        from oam_mosaic_assets.gateways.catalogue.stac_api_io import NotThere  # noqa: PLC0415 (slow)

        seen: set[str] = set()
        following: str | None = f"{self._address.geturl()}/collections"
        while following:
            try:
                page = self._understood(partial(api.read_json, following))
            except NotThere:  # searching is all that is needed of an API
                break
            names = {str(_mapping(each).get("id")) for each in _listed(page.get("collections"))}
            if names <= seen:  # it leads in circles, or knows only the one that is read
                break
            seen |= names
            following = _next_page(page)
        found = self._understood(lambda: next(api.get_pages(url, method, {"limit": 1})))
        return Holdings(collections=max(1, len(seen)), items=_matched(found))

    def _pages(self, pages: Iterator[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
        while page := self._understood(lambda: next(pages, {})):
            yield page

    def _understood(self, call: Callable[[], dict[str, Any]]) -> Mapping[str, Any]:
        """Read an answer that may be anything, such as the HTML page of a proxy."""
        try:
            return _mapping(call())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._no_api(f"{type(error).__name__}: {error}") from error

    def _no_api(self, reason: str) -> CatalogueRefused:
        return CatalogueRefused(
            f"{self._address.geturl()} does not answer as a STAC API does: {reason}",
            hint="Give the address of its landing page, such as https://api.imagery.hotosm.org/stac.",
        )


@dataclass(frozen=True, slots=True)
class StacApiSnapshot:
    """The pages as they come; see `source.Snapshot`.

    The ids of all items are kept in memory, some 100 bytes each, to tell what comes twice.
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
        ours = (None, self._collection)
        rows = left_out = without_news = 0
        for page in self._pages():
            known = len(seen)
            for feature in _listed(page.get("features")):
                rows += 1
                if not isinstance(feature, dict):
                    yield Unreadable(rows, repr(feature)[:SHOWN_CHARACTERS])
                    continue
                name = feature.get("id")
                is_repeated = isinstance(name, str) and name in seen  # what is no text need not be hashable
                if is_repeated or feature.get("collection") not in ours:
                    left_out += 1
                    continue
                if isinstance(name, str):
                    seen.add(name)
                yield feature
            without_news = 0 if len(seen) > known else without_news + 1
            if without_news == PAGES_WITHOUT_NEWS:
                raise CatalogueUnavailable(
                    f"the STAC API repeats itself: {PAGES_WITHOUT_NEWS} pages in a row held no new item of"
                    f" {self._collection!r}",
                    hint="Run again; where it happens again, report it to those who run the API.",
                )
        if self.expected is not None and rows - left_out < self.expected:
            raise CatalogueUnavailable(
                f"the STAC API announced {self.expected} items and gave {rows - left_out}",
                hint="The catalogue changed while it was read, or pages were lost; run again.",
            )


def _address(url: str) -> SplitResult:
    """Take an address apart.

    A character of the password that should have been escaped makes its second half part of the path; so what
    looks like that is refused without showing any of it.
    """
    with suppress(ValueError):  # a port that is no number
        address = urlsplit(url)
        whole = address.scheme in {"http", "https"} and address.hostname and address.port != 0
        if whole and "@" not in address.path and not address.query and not address.fragment:
            return address
    raise CatalogueRefused(
        "the address of the STAC API cannot be read",
        hint="Give the address of its landing page, such as https://api.imagery.hotosm.org/stac, and write"
        " special characters of a password as %XX (@ is %40, / is %2F).",
    )


def _matched(page: Mapping[str, Any]) -> int | None:
    """How many items there are on all pages, where the API says so."""
    matched = page.get("numberMatched", _mapping(page.get("context")).get("matched"))
    return matched if isinstance(matched, int) else None


def _next_page(page: Mapping[str, Any]) -> str | None:
    links = (_mapping(each) for each in _listed(page.get("links")))
    found = [
        href for each in links if each.get("rel") == "next" and isinstance(href := each.get("href"), str)
    ]
    return found[0] if found else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
