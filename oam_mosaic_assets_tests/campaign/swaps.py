"""Readers during publications: `scripts/swaps`.

Two small archives are published alternately, over and over, on Ceph. Meanwhile the pmtiles readers for Python
and JavaScript, and MapLibre in a browser, read tiles: at the address of a release, where nothing may ever go
wrong, and under the fixed key, where errors are counted. Both archives draw the same squares, and the id of
each image begins with the archive's letter, so that a tile shows which archive it belongs to.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import requests
from pmtiles.reader import MmapSource, Reader, all_tiles

from oam_mosaic_assets.core.product import PMTILES
from oam_mosaic_assets.core.release import ARCHIVE, MANIFEST, Keys, Pointer, tilejson
from oam_mosaic_assets.core.vector_tile import read_layers
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.public_keys import Part
from oam_mosaic_assets.gateways.read_back import Expected
from oam_mosaic_assets.gateways.releases import Candidate, Releases
from oam_mosaic_assets_tests.chain import (
    REPOSITORY,
    Site,
    dagster_instance,
    quick_folder,
    some_items,
    write_items,
)
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer, running_ceph

BROWSER: Final = Path(__file__).parents[1] / "browser"
SQUARES: Final = 60
MORE: Final = 40
"""Images in only one of the two, so that the same tile is at a different offset in each."""
FOLLOWED: Final = 25
"""Tiles read from a release before the pointer is read again."""


@dataclass(slots=True)
class Figures:
    """What a reader met.

    Attributes:
        tiles: tiles requested.
        mismatches: responses it rejected because their ETag had changed.
        errors: tiles that could not be read or decoded.
        mixed: tiles that show images of both archives.
        wrong: tiles of another archive than the release's.
    """

    tiles: int = 0
    mismatches: int = 0
    errors: int = 0
    mixed: int = 0
    wrong: int = 0
    said: list[str] = field(default_factory=list)


def two_archives(folder: Path) -> dict[str, Path]:
    """Build the two archives with the project's own chain; returns them by letter."""
    made = {}
    with dagster_instance() as instance:
        for letter, count in (("a", SQUARES), ("b", SQUARES + MORE)):
            home = folder / letter
            home.mkdir()
            site = Site({"STAC_ITEMS": str(home / "items.ndjson")}, instance, home)
            items = [{**item, "id": letter + item["id"][1:]} for item in some_items(count)]
            write_items(site.items, items)
            outcome = site.run()
            assert outcome.success, outcome.log
            made[letter] = home / "store" / ARCHIVE
    return made


def publish(releases: Releases, letter: str, path: Path) -> None:
    """Publish an archive as if its build had just been audited."""
    now, digest, content = datetime.now(UTC), letter * 64, path.read_bytes()
    build = releases.staged.name_build(now, digest, run="swaps")
    store, keys = releases.store, releases.keys
    staged = [
        store.put_bytes(keys.staging(build, name), content, Headers(PMTILES))
        for name in (ARCHIVE, "footprints.parquet", "set_aside.parquet")
    ]
    described = {"name": "swaps", "description": "", "attribution": "", "vector_layers": []}
    releases.publish(
        Candidate(
            parts=[Part(name=ARCHIVE, stored=staged[0], expected=Expected.of_file(path, PMTILES))],
            footprints=staged[1],
            set_aside=staged[2],
            pointer=Pointer(
                build=build,
                digest=digest,
                snapshot_taken_at=now.isoformat(),
                checked_at=now.isoformat(),
                published_at="",
                source="sample",
                images=SQUARES,
                set_aside=0,
                archive=keys.release(build, ARCHIVE),
                manifest=keys.release(build, MANIFEST),
                size=len(content),
                sha256="",
            ),
            manifest={"build": build},
            tilejson=lambda address: tilejson(
                metadata=described,
                bounds=(-180.0, -85.0, 180.0, 85.0),
                zoom_min=0,
                zoom_max=10,
                archive_address=address,
                build=build,
            ),
            names_any=lambda _: False,
        )
    )


class PythonReader:
    """The pmtiles reader for Python, which caches nothing and checks no ETag.

    Args:
        root: the public address of the bucket, with a trailing slash.
        follows: whether to read the release that the pointer names instead of the fixed key.
    """

    def __init__(self, root: str, tiles: list[tuple[int, int, int]], *, follows: bool) -> None:
        self.met = Figures()
        self._root, self._tiles, self._follows = root, tiles, follows
        self._session = requests.Session()

    def read(self, is_over: threading.Event) -> None:
        """Read tiles until it is over."""
        key, letter = ARCHIVE, ""
        while not is_over.is_set():
            if self._follows and self.met.tiles % FOLLOWED == 0:
                pointer = self._session.get(f"{self._root}mosaic/latest.json", timeout=60).json()
                key, letter = pointer["archive"], pointer["digest"][0]
            self.met.tiles += 1
            try:
                letters = letters_of(Reader(partial(self._get, key)).get(*random.choice(self._tiles)))
            except Exception as error:  # noqa: BLE001  # a reader may fail in any way on inconsistent bytes
                self.met.errors += 1
                self.met.said = [*self.met.said, f"{type(error).__name__}: {error}"][:3]
            else:
                self.met.mixed += len(letters) > 1
                self.met.wrong += bool(letter) and letters != {letter}

    def _get(self, key: str, offset: int, length: int) -> bytes:
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        answer = self._session.get(self._root + key, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.content


def letters_of(tile: bytes | None) -> set[str]:
    """The letters of the archives whose images a tile shows."""
    assert tile is not None, "the tile is not there"
    layers = read_layers(gzip.decompress(tile))
    return {value[0] for layer in layers for value in layer.values if isinstance(value, str)}


@contextmanager
def reading(
    *command: str, task: Mapping[str, Any], answers: dict[str, Any], name: str, folder: Path = BROWSER
) -> Iterator[None]:
    """Run a program that reads during the block, and add what it met to the answers."""
    with subprocess.Popen(
        [*command, json.dumps(task)], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n", f"{command} did not begin"
            yield
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, f"{command} ended with {process.returncode}"
            answers[name] = json.loads(said)
        finally:
            process.kill()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder's files to the browser; yields the address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def swap(ceph: CephServer, publications: int) -> dict[str, Any]:
    """Publish this many times; returns what each reader met."""
    answers: dict[str, Any] = {}
    with quick_folder() as folder, ExitStack() as held:
        archives = two_archives(folder)
        bucket = new_bucket(ceph)
        cors = next(block for block in _documented_json() if "CORSRules" in block)
        client_of(ceph).put_bucket_cors(Bucket=bucket, CORSConfiguration=cors)
        root, releases = f"{ceph.endpoint}/{bucket}/", Releases(store_in(ceph, bucket), Keys())
        tiles = sorted(set.intersection(*(_tiles_of(path) for path in archives.values())))
        publish(releases, "a", archives["a"])

        is_over = threading.Event()
        python = {name: PythonReader(root, tiles, follows=name == "release") for name in ("release", "fixed")}
        threads = [threading.Thread(target=each.read, args=(is_over,)) for each in python.values()]
        places = [item["geometry"]["coordinates"][0][0] for item in some_items(SQUARES)]
        task = {"page": f"{held.enter_context(served(BROWSER))}/map.html", "root": root, "places": places}
        maps = (sys.executable, "-m", "oam_mosaic_assets_tests.campaign.map_reader")
        # first, as it takes seconds to begin, while the others read as fast as they can
        held.enter_context(reading(*maps, task=task, answers=answers, name="MapLibre", folder=REPOSITORY))
        task = {"address": f"{root}mosaic/latest.json", "tiles": tiles, "follow": FOLLOWED}
        held.enter_context(
            reading("node", "read.mjs", task=task, answers=answers, name="JavaScript, release")
        )
        task = {"address": root + ARCHIVE, "tiles": tiles, "follow": 0}
        held.enter_context(reading("node", "read.mjs", task=task, answers=answers, name="JavaScript, fixed"))
        for thread in threads:
            thread.start()
        try:
            for number in range(publications):
                letter = "ba"[number % 2]
                publish(releases, letter, archives[letter])
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
    answers |= {f"Python, {name}": asdict(each.met) for name, each in python.items()}
    answers |= {f"MapLibre, {name}": met for name, met in answers.pop("MapLibre").items()}
    return answers


def problems_of(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What went wrong at the address of a release, where nothing may, and which readers read nothing."""
    found = []
    for name, met in answers.items():
        if name.endswith("release"):
            found += [f"{name}: {met[what]} {what}" for what in ("errors", "mixed", "wrong") if met[what]]
        if not met.get("tiles", met.get("shown")):
            found.append(f"{name} read nothing")
    return found


def _tiles_of(path: Path) -> set[tuple[int, int, int]]:
    with path.open("rb") as file:
        return {place for place, tile in all_tiles(MmapSource(file)) if letters_of(tile)}


def _documented_json() -> Iterator[Any]:
    contract = (REPOSITORY / "docs" / "contract.md").read_text()
    for block in contract.split("```json\n")[1:]:
        yield json.loads(block.partition("```")[0])


def install_readers() -> None:
    """Install what `package-lock.json` pins, once for each version of that file."""
    installed = BROWSER / "node_modules" / ".package-lock.json"
    locked = BROWSER / "package-lock.json"
    with locked.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # test files that run in parallel share the folder
        if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(
                command, cwd=BROWSER, check=True, stdout=sys.stderr, env={**os.environ, "CI": "true"}
            )


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/swaps", description=__doc__)
    parser.add_argument("--publications", type=int, default=100)
    stated = parser.parse_args()
    install_readers()
    with running_ceph() as ceph:
        answers = swap(ceph, stated.publications)
    problems = problems_of(answers)
    print(json.dumps(answers, indent=1))  # noqa: T201  # command-line output
    print("\n".join(problems) or "all is well at the address of a release")  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
