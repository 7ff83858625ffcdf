"""Reading back, as a stranger, what was published: every way in which it can differ from what was written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oam_mosaic_assets.errors import NotAsPublished
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PublicHead
from oam_mosaic_assets.gateways.read_back import Expected, read_back

KEY, CONTENT = "a/b.pmtiles", b"begin" + b"." * 100 + b"end"
EXPECTED = Expected(content_type="application/vnd.pmtiles", size=len(CONTENT), head=b"begin", tail=b"end")
HEADERS = Headers("application/vnd.pmtiles", "public, max-age=60")


def test_what_was_written_is_found_on_every_store(store: ObjectStore) -> None:
    store.put_bytes(KEY, CONTENT, HEADERS, public=True)

    read_back(store, KEY, EXPECTED, patience_seconds=0)
    read_back(store, KEY, Expected.whole(CONTENT, "application/vnd.pmtiles"), patience_seconds=0)


@pytest.mark.parametrize(
    "content",
    [b"Begin" + CONTENT[5:], CONTENT[:-1] + b"D", CONTENT + b".", CONTENT[:-1], b"x"],
    ids=["head", "tail", "longer", "shorter", "another"],
)
def test_other_bytes_are_not_what_was_published(store: ObjectStore, content: bytes) -> None:
    store.put_bytes(KEY, content, HEADERS, public=True)

    with pytest.raises(NotAsPublished, match=r"a/b\.pmtiles (does not return|returns)"):
        read_back(store, KEY, EXPECTED, patience_seconds=0)


@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_stranger_may_not_read_is_not_published(store: ObjectStore, is_there: bool) -> None:  # noqa: FBT001
    if is_there:
        store.put_bytes(KEY, CONTENT, HEADERS)

    with pytest.raises(NotAsPublished, match="is not readable without credentials"):
        read_back(store, KEY, EXPECTED, patience_seconds=0)


def test_another_content_type_is_not_what_was_published(store: ObjectStore) -> None:
    store.put_bytes(KEY, CONTENT, Headers("text/html; charset=utf-8"), public=True)
    if isinstance(store, FolderStore):  # it stores no headers
        read_back(store, KEY, EXPECTED, patience_seconds=0)
    else:
        with pytest.raises(
            NotAsPublished, match=r"has the content type 'text/html', not 'application/vnd\.pmtiles'"
        ):
            read_back(store, KEY, EXPECTED, patience_seconds=0)


class Cached(FolderStore):
    """A store behind a cache that keeps an outdated answer for a while."""

    asked = 0
    cached: PublicHead | None

    def head_publicly(self, key: str) -> PublicHead | None:
        self.asked += 1
        return self.cached if self.asked < 3 else super().head_publicly(key)


@pytest.mark.parametrize(
    ("cached", "wrong", "hint"),
    [
        (PublicHead(1, None), "returns 1 bytes", "keeps objects for too long"),
        (None, "is not readable without credentials", "allow ACLs .* kept a 404 for too long"),
    ],
    ids=["object", "404"],
)
def test_a_cache_may_be_outdated_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: PublicHead | None, wrong: str, hint: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    store = Cached(tmp_path)
    store.cached = cached
    store.put_bytes(KEY, CONTENT, HEADERS, public=True)

    with pytest.raises(NotAsPublished, match=wrong) as refused:
        read_back(store, KEY, EXPECTED, patience_seconds=0)
    assert re.search(hint, refused.value.hint)
    read_back(store, KEY, EXPECTED, patience_seconds=30)

    assert store.asked == 3
