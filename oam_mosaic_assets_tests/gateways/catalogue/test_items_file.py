"""Items from a file: lines of JSON, plain or gzipped, and all that can be wrong with them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways.catalogue import items_file
from oam_mosaic_assets.gateways.catalogue.items_file import ItemsFile
from oam_mosaic_assets.gateways.catalogue.source import Unreadable
from oam_mosaic_assets_tests.gateways.catalogue.items import PEAK_MEMORY, an_item, items_of_many_kinds
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION


def lines_of(*items: Any) -> bytes:
    return b"".join(json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in items)


def read(path: Path, collection: str | None = None) -> list[Any]:
    with ItemsFile(path, collection).snapshot() as snapshot:
        return list(snapshot.items())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test writes its file; the name has no extension, so it does not reveal the format."""
    return tmp_path / "items"


# Lines


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_every_line_is_an_item(path: Path, pack: Any) -> None:
    items = items_of_many_kinds()
    path.write_bytes(pack(lines_of(*items)))

    assert read(path) == items


def test_a_file_gzipped_in_several_pieces_is_read_to_its_end(path: Path) -> None:
    path.write_bytes(gzip.compress(lines_of(an_item("a"))) + gzip.compress(lines_of(an_item("b"))))

    assert read(path) == [an_item("a"), an_item("b")]


def test_blank_lines_byte_order_mark_and_windows_line_ends_do_not_matter(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf\r\n" + lines_of(an_item("a")).replace(b"\n", b"\r\n") + b"\n  \n\n")

    assert read(path) == [an_item("a")]


def test_the_last_line_needs_no_end(path: Path) -> None:
    path.write_bytes(lines_of(an_item("a")).rstrip())

    assert read(path) == [an_item("a")]


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"")], ids=["nothing", "blank", "gzip"])
def test_an_empty_file_is_a_catalogue_without_items(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    assert read(path) == []


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'{"id": "cut sho', id="cut short"),
        pytest.param(b"not json", id="no JSON"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="a number"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b'["id"]', id="a list"),
        pytest.param(b'{"id": ' + b"9" * 5000 + b"}", id="a number of 5000 digits"),
        pytest.param(b'{"id": ' + b"[" * 100_000, id="nested without end"),
    ],
)
def test_a_line_that_is_no_item_is_set_aside_with_its_number_and_beginning(path: Path, line: bytes) -> None:
    path.write_bytes(lines_of(an_item("a")) + b"\n" + line + b"\n" + lines_of(an_item("b")))

    assert read(path) == [an_item("a"), Unreadable(3, line.decode()[:200]), an_item("b")]


def test_a_line_that_is_no_utf8_is_set_aside(path: Path) -> None:
    path.write_bytes(lines_of(an_item("a")) + '{"id": "Zürich"}\n'.encode("latin-1"))

    assert read(path) == [an_item("a"), Unreadable(2, '{"id": "Z\ufffdrich"}')]


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    """Twenty thousand items of 4 kB do not fit into 20 MB."""
    with gzip.open(path, "wb") as file:
        for number in range(20_000):
            file.write(lines_of(an_item(str(number), filling="x" * 4000)))
    script = (
        f"{PEAK_MEMORY}\n"
        "import sys\n"
        "from oam_mosaic_assets.gateways.catalogue.items_file import ItemsFile\n"
        "before = peak_kilobytes()\n"
        "print(ItemsFile(sys.argv[1]).count(), peak_kilobytes() - before)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    items, kilobytes = map(
        int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    )

    assert items == 20_000
    assert kilobytes < 20_000


# The catalogue


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_snapshot_can_be_read_twice(path: Path, pack: Any) -> None:
    path.write_bytes(pack(lines_of(an_item("a"), an_item("b"))))
    with ItemsFile(path).snapshot() as snapshot:
        assert list(snapshot.items()) == list(snapshot.items()) == [an_item("a"), an_item("b")]


def test_items_of_other_collections_are_none_of_the_catalogues(path: Path) -> None:
    of_none = {key: value for key, value in an_item("b").items() if key != "collection"}
    path.write_bytes(lines_of(an_item("a"), of_none, an_item("c", collection="another")) + b"?\n")

    assert read(path, COLLECTION) == [an_item("a"), of_none, Unreadable(4, "?")]
    assert len(read(path)) == 4


def test_lines_are_counted_as_they_are_read(path: Path) -> None:
    path.write_bytes(lines_of(an_item("a"), an_item("b", collection="another")) + b"?\n")

    with ItemsFile(path).snapshot() as snapshot:
        assert snapshot.expected is None
    assert ItemsFile(path).count() == 3
    assert ItemsFile(path, COLLECTION).count() == 2


def test_what_stands_as_an_id_is_listed_row_by_row(path: Path) -> None:
    path.write_bytes(lines_of(an_item("a"), an_item("b", collection="another"), an_item("a")) + b"?\n")

    assert list(ItemsFile(path, COLLECTION).ids()) == ["a", "a", None]


def test_a_snapshot_is_as_old_as_the_look_at_the_file_not_as_the_file(path: Path) -> None:
    path.write_bytes(lines_of(an_item("a")))
    os.utime(path, (0, 0))
    before = datetime.now(UTC)
    with ItemsFile(path).snapshot() as snapshot:
        assert before <= snapshot.taken_at <= datetime.now(UTC)
        assert snapshot.taken_at.tzinfo is UTC


def test_where_all_items_are_of_other_collections_these_are_named(path: Path) -> None:
    others = [an_item(str(number), collection=f"other-{number % 12}") for number in range(30)]
    path.write_bytes(lines_of(*others) + b"?\n")
    named = ", ".join(f"other-{number}" for number in range(10))
    with pytest.raises(CatalogueRefused, match=rf"no items of the collection mine, only of: {named}, …\n"):
        read(path, "mine")
    path.write_bytes(lines_of(others[0]))
    with pytest.raises(CatalogueRefused, match=r"only of: other-0\n"):
        read(path, "mine")


def test_their_names_command_no_terminal(path: Path) -> None:
    path.write_bytes(lines_of(an_item("a", collection="x\u001b[2J\u001b]0;owned\u0007")))
    with pytest.raises(CatalogueRefused, match="owned") as refused:
        read(path, "mine")
    assert refused.value.message.isprintable()


def test_a_catalogue_is_called_by_the_path_and_the_collection() -> None:
    assert ItemsFile("data/items.ndjson").origin == "file data/items.ndjson"
    assert ItemsFile(Path("data/items.ndjson"), "oam").origin == "file data/items.ndjson, collection oam"


# Files that are refused


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(CatalogueRefused, match="No such file"):
        read(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueRefused, match="is not a file"):
        read(tmp_path)


def test_a_file_that_may_not_be_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is simulated: the tests may run as root, who can read everything."""

    def forbid(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    path.write_bytes(lines_of(an_item("a")))
    monkeypatch.setattr(Path, "open", forbid)
    with pytest.raises(CatalogueRefused, match="Permission denied"):
        read(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("left", [slice(5), slice(-3)], ids=["near its beginning", "in a letter"])
def test_a_file_that_was_cut_off_in_a_line_is_refused(path: Path, pack: Any, left: slice) -> None:
    """Otherwise part of a download would be taken for a whole catalogue."""
    line = json.dumps({**an_item("b"), "title": "Zürich ü"}, ensure_ascii=False).encode()
    assert line.endswith('ü"}'.encode())
    path.write_bytes(pack(lines_of(an_item("a")) + line[left]))

    with pytest.raises(CatalogueRefused, match="is incomplete: it ends in the middle of line 2"):
        read(path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda packed: packed[:-1], id="end missing"),
        pytest.param(lambda packed: packed[: len(packed) // 2], id="half missing"),
        pytest.param(lambda packed: packed[:200] + bytes(50) + packed[250:], id="a hole"),
        pytest.param(lambda packed: packed[:-8] + bytes(8), id="wrong checksum"),
        pytest.param(lambda packed: packed + b"more", id="something behind it"),
    ],
)
def test_a_gzipped_file_that_is_not_whole_is_refused(path: Path, damage: Any) -> None:
    path.write_bytes(damage(gzip.compress(lines_of(*[an_item(os.urandom(12).hex()) for _ in range(500)]))))

    with pytest.raises(CatalogueRefused, match="is incomplete"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps({"type": "FeatureCollection", "features": [an_item()]}), id="one line"),
        pytest.param(json.dumps({"features": [an_item()], "type": "FeatureCollection"}), id="features first"),
        pytest.param(
            json.dumps({"type": "FeatureCollection", "features": [an_item()]}, indent=1), id="indented"
        ),
        pytest.param('{"type": "FeatureCollection",\n"features": [\n{}\n]}', id="an item a line"),
        pytest.param('{"numberMatched": 1, "type": "FeatureCollection", "features": [{}]}', id="of an API"),
        pytest.param(json.dumps([an_item()]), id="a list"),
        pytest.param(json.dumps(an_item(), indent=1), id="an item on many lines"),
    ],
)
def test_all_items_in_one_document_are_refused_with_the_way_to_convert_them(path: Path, text: str) -> None:
    path.write_text(text)

    with pytest.raises(CatalogueRefused, match="all in one document") as refused:
        read(path)
    assert "jq -c" in refused.value.hint


def test_an_item_may_say_what_a_document_of_all_items_begins_with(path: Path) -> None:
    items = [{"title": "FeatureCollection", **an_item(name)} for name in ("a", "b")]
    path.write_bytes(lines_of(*items))

    assert read(path) == items


@pytest.mark.parametrize("name", ["items.ndjson", "-lines.ndjson", "it's all; here.json"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_the_way_to_convert_a_file_leaves_it_whole(tmp_path: Path, name: str, pack: Any) -> None:
    """The shell gets what the hint says; only jq itself is replaced, as it need not be installed."""
    text = json.dumps([an_item()]).encode()
    path, packed = tmp_path / name, pack(text)
    path.write_bytes(packed)
    with pytest.raises(CatalogueRefused, match="all in one document") as refused:
        read(path)
    command = refused.value.hint.partition(": ")[2]

    subprocess.run(["sh", "-euc", f"jq() {{ cat; }}; {command}"], check=True, cwd=tmp_path)

    assert path.read_bytes() == packed
    (converted,) = {*tmp_path.iterdir()} - {path}
    assert converted.suffix == ".ndjson"
    assert converted.read_bytes() == text


def test_a_line_without_end_is_not_read_into_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items_file, "LONGEST_LINE", 1000)
    path.write_bytes(lines_of(an_item("a"), an_item("b", filling="x" * 2000)))

    with pytest.raises(CatalogueRefused, match="all in one document"):
        read(path)


# Files that change


@pytest.mark.parametrize("change", ["append", "replace", "remove"])
def test_a_file_that_changes_while_it_is_read_may_be_whole_later(path: Path, change: str) -> None:
    path.write_bytes(lines_of(*[an_item(str(n)) for n in range(3)]))
    with ItemsFile(path).snapshot() as snapshot:
        items = snapshot.items()
        next(items)
        if change == "append":
            with path.open("ab") as file:
                file.write(lines_of(an_item("late")))
        elif change == "replace":
            (path.parent / "new").write_bytes(lines_of(an_item("other")))
            (path.parent / "new").replace(path)
        else:
            path.unlink()
        with pytest.raises(CatalogueUnavailable, match="changed while it was being read"):
            list(items)


def test_a_disk_that_fails_during_the_read_may_be_well_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(gzip.compress(lines_of(an_item("a"))))

    def fail(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(gzip.GzipFile, "readline", fail)
    with pytest.raises(CatalogueUnavailable, match="cannot be read: Input/output error"):
        read(path)


def test_a_disk_that_fails_at_once_may_be_well_later() -> None:
    with pytest.raises(CatalogueUnavailable, match=r"^/proc/self/mem cannot be read: Input/output error"):
        read(Path("/proc/self/mem"))


def test_errors_of_the_reader_are_its_own(path: Path) -> None:
    """A full disk where the items are written is not the fault of the file they come from."""
    path.write_bytes(lines_of(an_item("a")))

    def fail() -> None:
        with ItemsFile(path).snapshot() as snapshot:
            for _ in snapshot.items():
                raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
