"""How a STAC API is handled that answers badly, late, in a circle, or with links to other places."""

from __future__ import annotations

import json
import math
import subprocess
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways.catalogue import stac_api, stac_api_io
from oam_mosaic_assets.gateways.catalogue.source import Holdings, Unreadable
from oam_mosaic_assets.gateways.catalogue.stac_api import PAGES_WITHOUT_NEWS, StacApiCatalogue
from oam_mosaic_assets_tests.gateways.catalogue.items import an_item, everything_told
from oam_mosaic_assets_tests.gateways.catalogue.scripted_api import (
    HERE,
    LANDING,
    Answer,
    ScriptedApi,
    a_page,
    scripted_api,
)
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION
from oam_mosaic_assets_tests.servers.ports import free_port


def catalogue_of(api: ScriptedApi, **how: Any) -> StacApiCatalogue:
    return StacApiCatalogue(api.address, COLLECTION, backoff_seconds=0, **how)


def read(catalogue: StacApiCatalogue) -> list[Any]:
    with catalogue.snapshot() as snapshot:
        return list(snapshot.items())


# Requests that fail


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 522])
def test_a_request_is_repeated_when_the_status_is_a_passing_one(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted_api(Answer("busy", status), Answer("busy", status), a_page(an_item("a"))) as api:
        assert read(catalogue_of(api)) == [an_item("a")]
    said = f"the STAC API answers with status {status}; trying again, attempts left: 5"
    assert said_here(caplog) == [said], "once"


def said_here(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == stac_api_io.__name__]


def test_that_an_api_is_away_is_said_when_it_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    away = StacApiCatalogue(f"http://127.0.0.1:{free_port()}", COLLECTION, backoff_seconds=0)
    with pytest.raises(CatalogueUnavailable, match="Connection refused"):
        away.count()
    assert said_here(caplog) == [
        "the STAC API does not answer: Connection refused; trying again, attempts left: 5"
    ]


def test_a_server_does_not_decide_how_long_a_run_waits() -> None:
    busy = Answer("busy", 429, headers={"Retry-After": "60"})
    start = time.monotonic()
    with scripted_api(busy, a_page(an_item("a"))) as api:
        assert read(catalogue_of(api)) == [an_item("a")]
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("status", [408, 429, 503, 522])
def test_a_passing_status_that_does_not_pass_makes_the_api_unavailable(status: int) -> None:
    with (
        scripted_api(Answer("too busy", status)) as api,
        pytest.raises(CatalogueUnavailable, match=f"status {status}: too busy"),
    ):
        read(catalogue_of(api, retries=2))


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_status_of_our_own_fault_is_a_refusal_at_once(status: int) -> None:
    with scripted_api(Answer("no", status)) as api:
        with pytest.raises(CatalogueRefused, match=f"status {status}"):
            read(catalogue_of(api))
        assert sum(path.startswith("/search") for _, path, _, _ in api.asked) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=127.0.0.1",
    ]
    subprocess.run(
        [*command, "-keyout", certificate, "-out", tmp_path / "public.pem"], capture_output=True, check=True
    )
    with certificate.open("ab") as file:
        file.write((tmp_path / "public.pem").read_bytes())
    with (
        scripted_api(a_page(), certificate=certificate) as api,
        pytest.raises(CatalogueRefused, match="CERTIFICATE_VERIFY_FAILED") as refused,
    ):
        read(catalogue_of(api))
    assert "REQUESTS_CA_BUNDLE" in refused.value.hint


def test_a_server_that_does_not_speak_tls_is_refused() -> None:
    with scripted_api(a_page()) as api, pytest.raises(CatalogueRefused) as refused:
        read(StacApiCatalogue(api.address.replace("http:", "https:"), COLLECTION, retries=0))
    assert refused.value.hint.endswith("a server without TLS begins with http://.")


def test_an_answer_that_takes_too_long_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    slow = Answer({}, seconds=0.5)
    with scripted_api(slow) as api, pytest.raises(CatalogueUnavailable, match="Read timed out"):
        read(catalogue_of(api, timeout_seconds=0.1, retries=0))
    assert not said_here(caplog), "it is not tried again"


def test_an_answer_that_breaks_off_is_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    half = Answer('{"features": [', headers={"Content-Length": "999"})
    with scripted_api(a_page(), half, half, a_page(an_item("a"))) as api:
        assert read(catalogue_of(api)) == [an_item("a")]
    assert said_here(caplog) == ["the STAC API breaks off its answer; trying again, attempts left: 5"], "once"


def test_answers_that_always_break_off_make_the_api_unavailable() -> None:
    half = Answer('{"features": [', headers={"Content-Length": "999"})
    with scripted_api(half) as api:
        with pytest.raises(CatalogueUnavailable, match=r"IncompleteRead\(14 bytes read"):
            read(catalogue_of(api, retries=2))
        assert sum(path.startswith("/search") for _, path, _, _ in api.asked) == 3


def test_an_answer_that_stalls_half_way_is_asked_for_again() -> None:
    stalls = Answer({}, seconds_half_way=0.5)
    with scripted_api(a_page(), stalls, a_page(an_item("a"))) as api:
        assert read(catalogue_of(api, timeout_seconds=0.2)) == [an_item("a")]


# Inconsistent and malformed pages


def test_an_item_that_comes_twice_is_read_once() -> None:
    pages = [
        a_page(an_item("a"), an_item("b"), leads_to=f"{HERE}/search?2"),
        a_page(an_item("b"), an_item("c")),
    ]
    with scripted_api(a_page(), *pages) as api:
        assert [item["id"] for item in read(catalogue_of(api))] == ["a", "b", "c"]


def test_fewer_items_than_announced_are_not_the_whole_catalogue() -> None:
    pages = [
        a_page(an_item("a"), leads_to=f"{HERE}/search?2"),
        a_page(an_item("b"), an_item("a")),
        a_page(an_item("a"), an_item("c")),
    ]
    with (
        scripted_api(a_page(matched=3), *pages) as api,
        pytest.raises(CatalogueUnavailable, match="announced 3 items but returned 2, and others when"),
    ):
        read(catalogue_of(api))


def test_fewer_items_than_announced_are_all_if_they_come_again(caplog: pytest.LogCaptureFixture) -> None:
    """An API may announce a number that it counted before an item was removed."""
    pages = [a_page(an_item("a"), leads_to=f"{HERE}/search?2"), a_page(an_item("b"))]
    with scripted_api(a_page(matched=3), *pages, *pages) as api, catalogue_of(api).snapshot() as snapshot:
        assert [item["id"] for item in snapshot.items()] == ["a", "b"]
        assert snapshot.expected == 2
    said = "the STAC API announced 3 items but twice returned the same 2; these are taken for all"
    assert [each.getMessage() for each in caplog.records if each.name == stac_api.__name__] == [said]


@pytest.mark.parametrize(("announced", "is_whole"), [(500, True), (501, False)])
def test_pages_that_end_far_too_soon_are_not_the_whole_catalogue_though_they_come_again(
    announced: int, *, is_whole: bool
) -> None:
    """Some servers give no more than their first 10,000 items, however often they are asked."""
    page = a_page(*(an_item(str(number)) for number in range(490)))
    with scripted_api(a_page(matched=announced), page) as api, catalogue_of(api).snapshot() as snapshot:
        if is_whole:
            assert sum(1 for _ in snapshot.items()) == snapshot.expected == 490
        else:
            with pytest.raises(CatalogueUnavailable, match="announced 501 items but its pages end after 490"):
                list(snapshot.items())


def test_the_older_way_to_announce_is_understood() -> None:
    first = Answer({"features": [], "context": {"matched": 7}})
    with scripted_api(first) as api:
        assert catalogue_of(api).count() == 7


def test_no_pages_are_read_to_count_what_nobody_announced() -> None:
    with scripted_api(a_page(an_item("a"), leads_to=f"{HERE}/search?2")) as api:
        assert catalogue_of(api).count() is None
        assert sum(path.startswith("/search") for _, path, _, _ in api.asked) == 1


def test_pages_that_lead_in_a_circle_are_left() -> None:
    circle = a_page(an_item("a"), leads_to=f"{HERE}/search?again")
    with scripted_api(circle) as api:
        with pytest.raises(CatalogueUnavailable, match="repeats itself"):
            read(catalogue_of(api))
        assert sum(path.startswith("/search") for _, path, _, _ in api.asked) <= PAGES_WITHOUT_NEWS + 2


def test_what_is_no_object_is_set_aside() -> None:
    with scripted_api(a_page(an_item("a"), "text", None, an_item("b"), matched=4)) as api:
        assert read(catalogue_of(api)) == [
            an_item("a"),
            Unreadable(2, "'text'"),
            Unreadable(3, "None"),
            an_item("b"),
        ]


@pytest.mark.parametrize("name", ["", 7, None, True, ["x"], {"x": "y"}, [["x"]]])
def test_an_item_whose_id_is_none_comes_as_it_stands(name: Any) -> None:
    """It is set aside later, and never taken for a repetition of another item with such an id."""
    hostile = an_item() | {"id": name}
    with scripted_api(a_page(an_item("a"), hostile, an_item("b"), matched=3)) as api:
        assert read(catalogue_of(api)) == [an_item("a"), hostile, an_item("b")]


def test_a_number_that_is_too_long_costs_no_other_item_of_its_page() -> None:
    page = json.dumps(a_page(an_item("a"), an_item("b", properties={"gsd": 5}), an_item("c")).body)
    with scripted_api(a_page(), Answer(page.replace('"gsd": 5', f'"gsd": -{"9" * 5000}'))) as api:
        items = read(catalogue_of(api))

    assert [item["id"] for item in items] == ["a", "b", "c"]
    assert items[1]["properties"]["gsd"] == -math.inf


@pytest.mark.parametrize(
    "answer",
    [
        Answer("<html>Under maintenance</html>"),
        Answer("[]]"),
        Answer([1, 2]),
        Answer({"features": [{}], "links": [{"href": "no rel"}]}),
        Answer({"features": [{}], "links": [7]}),
    ],
)
def test_an_answer_that_is_no_page_is_refused(answer: Answer) -> None:
    with scripted_api(a_page(), answer) as api, pytest.raises(CatalogueRefused):
        read(catalogue_of(api))


@pytest.mark.parametrize("pages_before", [0, 1, 2])
@pytest.mark.parametrize(
    "answer", [{"code": "Timeout"}, {}, {"features": None}, {"features": {}}, {"collections": [{"id": "a"}]}]
)
def test_an_answer_without_items_is_not_taken_for_the_last_page(answer: Any, pages_before: int) -> None:
    """If the API did not announce how many items there are, nothing else would show that some are missing."""
    pages = [a_page(), a_page(an_item("a"), leads_to=f"{HERE}/search?2")][:pages_before]
    with (
        scripted_api(*pages, Answer(answer)) as api,
        pytest.raises(CatalogueUnavailable, match="something other than a page of items"),
    ):
        read(catalogue_of(api))


def test_a_page_without_items_may_lead_to_others() -> None:
    pages = [a_page(leads_to=f"{HERE}/search?2"), a_page(an_item("a"))]
    with scripted_api(a_page(), *pages) as api:
        assert read(catalogue_of(api)) == [an_item("a")]


@pytest.mark.parametrize(
    "landing", [{"links": []}, {"links": [{"rel": "search"}]}, {"links": 7}, [], "<html></html>"]
)
def test_a_landing_page_without_a_search_is_refused(landing: Any) -> None:
    with (
        scripted_api(a_page(), others={"/": Answer(landing)}) as api,
        pytest.raises(CatalogueRefused, match="does not answer like a STAC API"),
    ):
        read(catalogue_of(api))


def test_a_search_is_sent_by_post_where_the_api_takes_it() -> None:
    with scripted_api(a_page(an_item("a"))) as api:
        read(catalogue_of(api))
        method, path, _, body = api.asked[-1]

    assert (method, path) == ("POST", "/search")
    assert json.loads(body) == {"collections": [COLLECTION], "limit": 500}


def test_an_api_that_searches_by_get_alone_is_asked_so() -> None:
    landing = LANDING | {"links": [{"rel": "search", "href": f"{HERE}/search"}]}
    with scripted_api(a_page(an_item("a")), others={"/": Answer(landing)}) as api:
        assert read(catalogue_of(api)) == [an_item("a")]
        assert {method for method, *_ in api.asked} == {"GET"}
        assert api.asked[-1][1] == f"/search?collections={COLLECTION}&limit=500"


# Links that lead elsewhere


@pytest.mark.parametrize(
    "link",
    [
        "http://localhost:{port}/search",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://127.0.0.1/items",
    ],
)
@pytest.mark.parametrize("rel", ["search", "next"])
def test_links_to_other_hosts_and_to_files_are_not_followed(link: str, rel: str) -> None:
    with scripted_api(a_page(matched=2), a_page(an_item("secret"))) as elsewhere:
        link = link.format(port=elsewhere.address.rpartition(":")[2])
        page = a_page(an_item("a"), leads_to=link if rel == "next" else None)
        landing = LANDING | {"links": [{"rel": "search", "href": link}]} if rel == "search" else LANDING
        with (
            scripted_api(a_page(matched=2), page, others={"/": Answer(landing)}) as api,
            pytest.raises(CatalogueRefused, match=r"links elsewhere, to \w*:"),
        ):
            read(catalogue_of(api))
        assert elsewhere.asked == []


ESCAPES = "x\u001b[2J\u001b]0;owned\u0007"
"""Clears a terminal and renames its window."""


@pytest.mark.parametrize(
    "others",
    [
        {
            "/collections/openaerialmap": Answer({}, 404),
            "/collections": Answer({"collections": [{"id": ESCAPES}]}),
        },
        {"/collections/openaerialmap": Answer(ESCAPES, 403)},
    ],
    ids=["the name of a collection", "the text of an error"],
)
def test_what_the_api_says_commands_no_terminal(others: dict[str, Answer]) -> None:
    with scripted_api(a_page(), others=others) as api, pytest.raises(CatalogueRefused) as refused:
        read(catalogue_of(api))
    assert "owned" in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("search", ["search", "./search", "/search"])
def test_links_without_a_host_lead_to_the_api(search: str) -> None:
    landing = LANDING | {"links": [{"rel": "search", "method": "POST", "href": search}]}
    collections = {"collections": [{"id": "a"}], "links": [{"rel": "next", "href": "collections/more"}]}
    pages = {
        "/": Answer(landing),
        "/collections": Answer(collections),
        "/collections/more": Answer({"collections": [{"id": "b"}]}),
    }
    found = [a_page(matched=2), a_page(an_item("a"), leads_to="?page=2"), a_page(an_item("b"), matched=5)]
    with scripted_api(*found, others=pages) as api, catalogue_of(api).snapshot() as snapshot:
        assert list(snapshot.items()) == [an_item("a"), an_item("b")]
        assert api.asked[-1][1] == "/search?page=2"
        assert snapshot.holdings() == Holdings(collections=2, items=5)


@pytest.mark.parametrize("where", ["search", "next", "collections"])
def test_a_file_is_not_read_whatever_leads_to_it(where: str, tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    file.write_text(json.dumps(a_page(an_item("secret")).body))
    to_file = [{"rel": "search" if where == "search" else "next", "href": str(file)}]
    pages = {
        "/": Answer(LANDING | ({"links": to_file} if where == "search" else {})),
        "/collections": Answer({"collections": [{"id": "a"}], "links": to_file}),
    }
    page = a_page(an_item("a"), leads_to=str(file) if where == "next" else None)
    with scripted_api(a_page(), page, others=pages) as api:
        if where == "collections":
            with catalogue_of(api).snapshot() as snapshot:
                assert snapshot.holdings().collections == 1
        else:
            with pytest.raises(CatalogueRefused, match="answered with status 404"):
                read(catalogue_of(api))
        assert str(file) in [path.partition("?")[0] for _, path, *_ in api.asked]


@pytest.mark.parametrize("where", ["search", "next", "collections"])
def test_a_link_that_is_no_address_is_refused(where: str) -> None:
    broken = [{"rel": "search" if where == "search" else "next", "href": "http://[::1"}]
    pages = {
        "/": Answer(LANDING | ({"links": broken} if where == "search" else {})),
        "/collections": Answer({"collections": [{"id": "a"}], "links": broken}),
    }
    page = a_page(an_item("a"), leads_to=broken[0]["href"] if where == "next" else None)
    with scripted_api(a_page(), page, others=pages) as api:
        if where == "collections":  # which need not be listed at all
            with catalogue_of(api).snapshot() as snapshot:
                assert snapshot.holdings().collections == 1
        else:
            with pytest.raises(CatalogueRefused, match="does not answer like a STAC API"):
                read(catalogue_of(api))


def test_links_with_the_scheme_and_port_behind_a_proxy_lead_to_the_address_that_was_given() -> None:
    pages = [
        a_page(an_item("a"), leads_to="https://127.0.0.1:8080/search?2"),
        a_page(an_item("b")),
    ]
    with scripted_api(a_page(), *pages) as api:
        assert [item["id"] for item in read(catalogue_of(api))] == ["a", "b"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("what", ["/", "/collections/openaerialmap", "/search"])
def test_redirects_are_refused_with_the_address_to_ask_instead(status: int, what: str) -> None:
    """A redirected POST search may turn into one of all collections, on another host."""
    with scripted_api(a_page(an_item("another", collection="another"))) as elsewhere:
        other = elsewhere.address.replace("127.0.0.1", "localhost")
        away = Answer(
            "", status, headers={"Location": f"{other.replace('//', '//user:kept-0123@')}{what}?key=1"}
        )
        with (
            scripted_api(away, others={} if what == "/search" else {what: away}) as api,
            pytest.raises(CatalogueRefused) as refused,
        ):
            read(catalogue_of(api))
        assert elsewhere.asked == []

    assert f"{what.rstrip('/')} redirects to {other}{what}, and" in refused.value.message
    assert f"set STAC_API_URL to {other}" in refused.value.hint
    assert refused.value.hint.rstrip("/.").endswith(other)
    assert "kept-0123" not in str(refused.value)


def test_a_redirect_to_the_same_host_by_https_is_refused_too() -> None:
    with scripted_api(a_page()) as api:
        safe = api.address.replace("http:", "https:")
        api.others["/"] = Answer("", 301, headers={"Location": f"{safe}/"})
        with pytest.raises(CatalogueRefused, match=f"set STAC_API_URL to {safe}/"):
            read(catalogue_of(api))


@pytest.mark.parametrize("target", ["http://[", "//", "", "?"])
def test_a_redirect_to_no_address_is_refused(target: str) -> None:
    away = Answer("", 302, headers={"Location": target})
    with (
        scripted_api(a_page(), others={"/collections/openaerialmap": away}) as api,
        pytest.raises(CatalogueRefused, match=r"redirects to|status 302"),
    ):
        read(catalogue_of(api))


def test_the_slash_that_a_landing_page_wants_is_kept() -> None:
    """The error tells users to add it, so adding it must have an effect."""
    pages = {
        "/stac": Answer("", 307, headers={"Location": "/stac/"}),
        "/stac/": Answer(LANDING),
        f"/stac/collections/{COLLECTION}": Answer({"id": COLLECTION}),
    }
    with scripted_api(a_page(an_item("a")), others=pages) as api:
        with pytest.raises(CatalogueRefused) as refused:
            read(StacApiCatalogue(f"{api.address}/stac", COLLECTION))
        assert refused.value.hint.endswith(f"set STAC_API_URL to {api.address}/stac/.")

        assert read(StacApiCatalogue(f"{api.address}/stac/", COLLECTION)) == [an_item("a")]


def test_items_of_other_collections_are_none_of_the_catalogues() -> None:
    of_none = {key: value for key, value in an_item("b").items() if key != "collection"}
    others = [an_item("c", collection="another"), an_item("d", collection=[COLLECTION])]
    with scripted_api(a_page(matched=2), a_page(an_item("a"), of_none, *others)) as api:
        assert read(catalogue_of(api)) == [an_item("a"), of_none]
    with (
        scripted_api(a_page(matched=2), a_page(an_item("a"), *others), a_page(*others)) as api,
        pytest.raises(CatalogueUnavailable, match="announced 2 items but returned 1"),
    ):
        read(catalogue_of(api))


# Secrets


def test_user_and_password_are_sent_but_never_shown() -> None:
    with scripted_api(a_page(an_item("a"))) as api:
        host = api.address.removeprefix("http://")
        catalogue = StacApiCatalogue(f"http://reader:p%40ss%2F%E2%82%AC@{host}/", COLLECTION)
        assert read(catalogue) == [an_item("a")]

    (sent,) = {headers["Authorization"].removeprefix("Basic ") for _, _, headers, _ in api.asked}
    assert b64decode(sent).decode() == "reader:p@ss/€"
    assert catalogue.origin == f"STAC API http://{host}, collection {COLLECTION}"
    assert repr(catalogue) == f"StacApiCatalogue('STAC API http://{host}, collection {COLLECTION}')"


@pytest.mark.parametrize("status", [401, 503])
def test_errors_do_not_show_the_password(status: int) -> None:
    with scripted_api(Answer("no", status)) as api:
        host = api.address.removeprefix("http://")
        catalogue = StacApiCatalogue(f"http://reader:kept-0123@{host}", COLLECTION, retries=0)
        with pytest.raises((CatalogueRefused, CatalogueUnavailable)) as failed:
            read(catalogue)

    assert "kept-0123" not in everything_told(failed.value)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "api.example.org",
        "ftp://api.example.org",
        "http://",
        "http://reader:Pa0xyz/Wo0xyz@api.example.org",
        "http://reader:12/Wo0xyz@api.example.org",
        "http://reader:Pa0xyz#Wo0xyz@api.example.org",
        "http://reader:12?Wo0xyz@api.example.org",
        "http://[reader:Pa0xyz@api.example.org",
        "https://api.example.org/stac?key=Pa0xyz",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(CatalogueRefused, match="cannot be parsed") as refused:
        StacApiCatalogue(address, COLLECTION)

    told = everything_told(refused.value)
    assert "Pa0xyz" not in told
    assert "Wo0xyz" not in told


def test_collections_are_counted_page_by_page_and_once_each() -> None:
    def collections(*names: str, leads_to: str | None = None) -> Answer:
        links = [{"rel": "next", "href": f"{HERE}{leads_to}"}] if leads_to else []
        return Answer({"collections": [{"id": name} for name in names], "links": links})

    pages = {
        "/collections": collections("a", "b", leads_to="/collections/page-2"),
        "/collections/page-2": collections("b", "c", leads_to="/collections/page-2"),
    }
    with scripted_api(a_page(matched=7), others=pages) as api, catalogue_of(api).snapshot() as snapshot:
        assert snapshot.holdings() == Holdings(collections=3, items=7)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
def test_an_api_that_lists_no_collections_is_read_all_the_same(status: int) -> None:
    with (
        scripted_api(a_page(matched=7), others={"/collections": Answer("", status=status)}) as api,
        StacApiCatalogue(api.address, COLLECTION).snapshot() as found,
    ):
        assert found.holdings() == Holdings(collections=1, items=7)


def test_an_api_that_searches_no_collections_together_is_read_all_the_same() -> None:
    refused = Answer({"detail": "collections: required"}, 422)
    with (
        scripted_api(a_page(matched=1), a_page(an_item("a")), refused) as api,
        catalogue_of(api).snapshot() as found,
    ):
        assert list(found.items()) == [an_item("a")]
        assert found.holdings() == Holdings(collections=1, items=None)
