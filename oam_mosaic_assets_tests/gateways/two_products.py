"""Builds of two products, published, rolled back and looked at as strangers see them."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.core.product import MOSAIC, Product
from oam_mosaic_assets.core.release import ARCHIVE, MANIFEST, Pointer, in_pointer
from oam_mosaic_assets.errors import NotAsPublished
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PublicHead
from oam_mosaic_assets.gateways.public_keys import Part
from oam_mosaic_assets.gateways.read_back import Expected
from oam_mosaic_assets.gateways.releases import Candidate, Releases
from oam_mosaic_assets.gateways.rollback import roll_back

JSON = "application/json"
OTHER = Product(word="other", name="other.json", content_type=JSON, asset="other")
BOTH = (MOSAIC, OTHER)
GONE = "5f1c0c2bd1c7c3000756f1f2"


def built(releases: Releases, letter: str, *products: Product) -> Candidate:
    """A staged and audited build; its products contain its letter, and in `y` the second names an image."""
    now, keys, digest = datetime.now(UTC), releases.keys, sha256(letter.encode()).hexdigest()
    build = releases.staged.name_build(now, digest, run=letter)
    parts, described = [], {}
    for each in products:
        named = f' "{GONE}"' if (letter, each) == ("y", OTHER) else ""
        content = f"{each.name} of {letter}{named}".encode() * 300
        stored = releases.store.put_bytes(keys.staging(build, each.name), content, Headers("text/plain"))
        ends = {"head": content[:1024], "tail": content[-1024:]}
        expected = Expected(content_type=each.content_type, size=len(content), **ends)
        parts.append(Part(name=each.name, stored=stored, expected=expected))
        described[each.name] = {
            "key": keys.release(build, each.name),
            "content_type": each.content_type,
            "bytes": len(content),
            "sha256": sha256(content).hexdigest(),
        }
    table = releases.store.put_bytes(keys.staging(build, "table"), b"{}", Headers("text/plain"))
    archive = described[ARCHIVE]
    pointer = Pointer(
        build=build,
        digest=digest,
        snapshot_taken_at=now.isoformat(),
        checked_at=now.isoformat(),
        published_at="",
        source="pgstac",
        images=1,
        set_aside=0,
        archive=str(archive["key"]),
        manifest=keys.release(build, MANIFEST),
        size=int(str(archive["bytes"])),
        sha256=str(archive["sha256"]),
        products=in_pointer(described),
    )
    manifest = {
        "build": build,
        "snapshot": {"digest": digest, "taken_at": now.isoformat()},
        "source": "pgstac",
        "images": 1,
        "set_aside": {},
        "archive": archive,
        "products": described,
        "confirmed": None,
    }
    return Candidate(
        parts=parts,
        footprints=table,
        set_aside=table,
        pointer=pointer,
        manifest=manifest,
        tilejson=lambda address: {"pmtiles": address, "tiles": [], "build": build},
        names_any=lambda ids: GONE in ids and letter == "y",
    )


def published(releases: Releases, letter: str, *products: Product) -> Pointer:
    pointer = releases.publish(built(releases, letter, *products))
    shows(releases, letter, *products)
    return pointer


def shows(releases: Releases, letter: str, *products: Product) -> None:
    """Check what a stranger sees: these products of this build, complete, and no others."""
    store, keys = releases.store, releases.keys
    current = releases.current()
    assert current is not None
    pointer = current[0]
    assert pointer.digest == sha256(letter.encode()).hexdigest()
    assert list(pointer.released) == [each.name for each in products]
    assert pointer.etags.keys() == {*keys.fixed_of(each.name for each in products)}
    assert releases.differences(pointer) == []
    for each in products:
        for key in (*keys.fixed(each.name), pointer.released[each.name]):
            content, head = store.read_publicly(key), store.head_publicly(key)
            assert content is not None
            assert content.startswith(f"{each.name} of {letter}".encode())
            assert head == PublicHead(len(content), each.content_type if head and head.content_type else None)
            if pointer.products:
                assert sha256(content).hexdigest() == pointer.products[each.name]["sha256"]
    for each in {*BOTH} - {*products}:
        assert [store.head(key) for key in keys.fixed(each.name)] == [None]


def back(releases: Releases, build: str, folder: Path) -> Pointer:
    return roll_back(releases, build, reason="a look", folder=folder, say=lambda _: None)[0]


def unreadable(monkeypatch: pytest.MonkeyPatch, store: ObjectStore, key: str) -> None:
    """Hide this key from strangers; everything else stays."""
    kind = type(store)
    real = kind.head_publicly

    def head_publicly(self: Any, asked: str) -> PublicHead | None:
        return None if asked == key else real(self, asked)

    monkeypatch.setattr(kind, "head_publicly", head_publicly)


def manifest_of(releases: Releases, candidate: Candidate) -> bytes:
    found = releases.store.get_bytes(candidate.pointer.manifest)
    assert found is not None
    return found[0]


def fails_once(call: Any) -> Any:
    failed: list[bool] = []

    def meet(*arguments: Any) -> Any:
        if not failed:
            failed.append(True)
            raise NotAsPublished("the store is gone", hint="Run again.")
        return call(*arguments)

    return meet
