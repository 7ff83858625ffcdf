"""Requests to one STAC API: retries, timeouts, a single host, and errors turned into this project's.

Separate from `stac_api` because importing pystac-client takes most of a second.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, Final, Self
from urllib.parse import SplitResult, urljoin, urlsplit

from pystac import Link
from pystac.link import HREF
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests import PreparedRequest, RequestException, Response, TooManyRedirects
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3 import Retry

from oam_mosaic_assets.core.shortened import shortened
from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable

PASSING_STATUSES: Final = frozenset({408, 429, 500, *range(502, 600)})
"""Proxies in front of an API have their own, such as Cloudflare's 520 to 527; 501 is for good."""

NOT_FOUND: Final = 404
SHOWN_CHARACTERS: Final = 300

_NO_TLS: Final = "Check STAC_API_URL: the address of a server without TLS begins with http://."
OF_TLS: Final = {
    "CERTIFICATE_VERIFY_FAILED": (
        "Check STAC_API_URL; if the API's certificate is from an authority of your own, name that "
        "authority's file in REQUESTS_CA_BUNDLE."
    ),
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "record layer failure": _NO_TLS,  # the same, as newer versions of OpenSSL say it
}
"""What helps when TLS fails, by what OpenSSL says."""


class NotThere(CatalogueRefused):
    """The API has nothing at this address (404)."""


class _SaidOnce(Retry):
    """Retries that say so at a request's first failure, as all of them together may take half a minute."""

    def increment(self, *request: Any, **failure: Any) -> Self:
        following = super().increment(*request, **failure)
        if not self.history:
            response, error = failure.get("response"), failure.get("error")
            what = f"does not answer: {_trouble(error) or type(error).__name__}"
            if response is not None:
                what = f"answers with status {response.status}"
            elif isinstance(error, RequestException):  # from `_WholeAnswers`, as urllib3 knows no such errors
                what = "breaks off its answer"
            logging.getLogger(__name__).warning(
                "the STAC API %s; trying again, attempts left: %s", what, self.total
            )
        return following


class _WholeAnswers(HTTPAdapter):
    """Retries also where an answer breaks off half-way: urllib3 leaves that to whoever reads its body."""

    def send(self, request: PreparedRequest, *how: Any, **named: Any) -> Response:
        retries = self.max_retries
        while True:
            answer = super().send(request, *how, **named)
            try:
                answer.content  # noqa: B018  # which is kept
            except RequestException as error:
                if not retries.total:
                    raise
                retries = retries.increment(error=error)
                retries.sleep()
            else:
                return answer


class OneHostIO(StacApiIO):
    """Reads JSON from one STAC API and from nowhere else.

    Args:
        address: the API's address, without user and password.
        credentials: user and password for HTTP basic authentication.
        timeout_seconds: for connecting, and between two pieces of a response.
        retries: how often a request is retried after a broken connection or one of `PASSING_STATUSES`.
        backoff_seconds: half the wait before the second retry; the first is immediate, then waits double.
    """

    def __init__(
        self,
        address: SplitResult,
        *,
        credentials: tuple[str, str] | None,
        timeout_seconds: float,
        retries: int,
        backoff_seconds: float,
    ) -> None:
        super().__init__(timeout=timeout_seconds, max_retries=None)
        whole = _WholeAnswers(
            max_retries=_SaidOnce(
                retries,
                status_forcelist=PASSING_STATUSES,
                allowed_methods=None,  # a search by POST changes nothing
                backoff_factor=backoff_seconds,
                raise_on_status=False,
                respect_retry_after_header=False,  # which may ask for hours
            )
        )
        self.session.mount("http://", whole)
        self.session.mount("https://", whole)
        # encoded here, or requests would send Latin-1, and nothing where that lacks a character
        self.session.auth = credentials and HTTPBasicAuth(*map(str.encode, credentials))
        # A redirect may lead to another host, and turns a search by POST into a GET without its query.
        self.session.max_redirects = 0
        self._address = address

    def is_there(self, href: str) -> bool:
        """Whether the API has something at this address. Raises as `request`."""
        try:
            self.request(href)
        except NotThere:
            return False
        return True

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Send a request, and return the body of the response.

        Raises:
            NotThere: status 404.
            CatalogueRefused: another host, a redirect, TLS that fails, or any other error status.
            CatalogueUnavailable: no answer, or one of `PASSING_STATUSES`.
        """
        href = self._here(href)
        try:
            return super().request(href, method, headers, parameters)
        except APIError as error:
            cause = error.__context__
            status: int | None = getattr(error, "status_code", None)
            told = " ".join(str(error).split())
            shown = shortened(told, SHOWN_CHARACTERS)
        if isinstance(cause, TooManyRedirects):
            raise self._redirected(href, cause)
        if status is None:
            message = f"{self._address.netloc} does not answer: {_trouble(cause) or shown}"
            for sign, hint in OF_TLS.items():
                if sign in told:
                    raise CatalogueRefused(message, hint=hint)
        else:
            message = f"{href.partition('?')[0]} answered with status {status}: {shown}"
            if status not in PASSING_STATUSES:
                refusal = NotThere if status == NOT_FOUND else CatalogueRefused
                raise refusal(message, hint="Check STAC_API_URL and the permission to read it.")
        raise CatalogueUnavailable(message, hint="Check that the STAC API is up, then run again.")

    def read_text(self, source: HREF, *args: Any, **kwargs: Any) -> str:
        """The body of what a link or an address leads to; the base class would open files as well."""
        if isinstance(source, Link):
            return super().read_text(source, *args, **kwargs)
        return self.request(str(source), *args, **kwargs)

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Each page of a search, up to the one without a link to the next.

        Raises: as `request`.
            CatalogueUnavailable: a response is not a page; taken for the last one, it would lose the rest.
        """
        page = self.read_json(url, method=method, parameters=parameters)
        while True:
            if not isinstance(page.get("features"), list):
                raise CatalogueUnavailable(
                    f"{self._address.netloc} answered a search with something other than a page of items:"
                    f" {json.dumps(page)[:SHOWN_CHARACTERS]}",
                    hint="Run again; if it happens again, report it to the operators of the API.",
                )
            yield page
            following = next((link for link in page.get("links", []) if link["rel"] == "next"), None)
            if following is None:
                return
            url = urljoin(url, following["href"])
            page = self.read_json(Link.from_dict(following | {"href": url}), parameters=parameters)

    def json_loads(self, txt: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Parse JSON. A number with thousands of digits becomes infinity: it affects one item, not a page."""
        read: dict[str, Any] = json.loads(txt, parse_int=_integer)
        return read

    def _redirected(self, href: str, redirect: TooManyRedirects) -> CatalogueRefused:
        """The error for a redirect: where it leads, and which address to set instead."""
        asked = href.partition("?")[0]
        target = asked if redirect.response is None else redirect.response.headers["location"]
        try:
            link = urlsplit(urljoin(asked, target))
            # without user, password and query, which do not belong in logs
            place = link._replace(netloc=link.netloc.rpartition("@")[2], query="", fragment="").geturl()
        except ValueError:  # brackets without an address in them
            return CatalogueRefused(
                f"{asked} redirects to something that is not an address",
                hint="Check the address of the STAC API, and report this to those who run it.",
            )
        below = asked.removeprefix(self._address.geturl()).rstrip("/")
        landing = place.rstrip("/").removesuffix(below) if below else place
        return CatalogueRefused(
            f"{asked} redirects to {place}, and redirects are not followed",
            hint=f"If that is the API you want, set STAC_API_URL to {landing}.",
        )

    def _here(self, href: str) -> str:
        """Take from a link only what follows the host, which must be the API's.

        Links come from the server. One that leads elsewhere could make this machine request what only it can
        reach. Behind a proxy that terminates TLS, scheme and port are often wrong, so the configured ones are
        used.
        """
        link = urlsplit(href)
        if link.scheme not in {"http", "https"} or link.hostname != self._address.hostname:
            raise CatalogueRefused(
                f"the STAC API at {self._address.netloc} links elsewhere, to {link.scheme}://{link.hostname}",
                hint="Tell the API at which address it is reached (forwarded headers, or its root path).",
            )
        return link._replace(scheme=self._address.scheme, netloc=self._address.netloc).geturl()


def _trouble(error: BaseException | None) -> str:
    """The operating system's message, beneath what libraries wrap around it; empty if there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__context__
    return ""


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return float(digits)
