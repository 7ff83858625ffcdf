"""What a build of a partition does when an image, a host or a worker fails."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from oam_mosaic_assets.assets.global_imagery_pmtiles import in_words
from oam_mosaic_assets.core.imagery.recipe import Image, Recipe
from oam_mosaic_assets.core.imagery.state import Tally
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.imagery.asking import DELIVERED, GIVEN_UP, Asking
from oam_mosaic_assets.gateways.imagery.building import Building
from oam_mosaic_assets.gateways.imagery.cutting import TOGETHER
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets.gateways.imagery.source import FIRST
from oam_mosaic_assets.gateways.imagery.workers import Job
from oam_mosaic_assets_tests.disks import a_small_disk, fill
from oam_mosaic_assets_tests.gateways.imagery.bench import LIMITS, NOON, Bench, drone, give_files, plain
from oam_mosaic_assets_tests.images import Writing, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, Request, ScriptedHost


def test_images_that_cannot_be_read_are_told_and_seen_in_grey(nginx: Nginx, tmp_path: Path) -> None:
    good, _ = drone(nginx, "good", 700_000, 5_200_000)
    (nginx.root / "page.tif").write_bytes(b"<html>Sign in</html>")
    beside, _ = drone(nginx, "beside", 702_000, 5_200_000)
    whole = (nginx.root / "beside.tif").read_bytes()
    (nginx.root / "cut.tif").write_bytes(whole[: len(whole) // 2])
    addresses = {
        "missing": nginx.address("nothing.tif"),
        "forbidden": nginx.address("secret/x.tif"),
        "not_tiff": nginx.address("page.tif"),
        "truncated": nginx.address("cut.tif"),
        "refused_address": "http://127.0.0.1:1/a.tif",
        "bad_address": "file:///etc/passwd",
        "no_asset": None,
        "unknown_host": "https://nobody.invalid/a.tif",
    }
    images = [
        good,
        *(Image(id=name, footprint=beside.footprint, asset=address) for name, address in addresses.items()),
    ]
    bench = Bench(tmp_path, nginx.host)
    tally = bench.build(images)
    assert tally.read == 1
    assert {each.id: each.reason for each in tally.skipped} == {name: name for name in addresses}
    assert all(each.since == NOON.isoformat() for each in tally.skipped if each.id != "no_asset")
    middle = np.array([beside.footprint.centroid.coords[0], good.footprint.centroid.coords[0]])
    hint, shown = bench.seen_at(middle)
    assert 0 < hint[3] < 255
    assert np.ptp(hint[:3]) < 12
    assert shown[3] == 255
    again = bench.build(images)
    assert (again.requests, again.made, len(again.skipped)) == (0, 0, 8)
    bench.recipe = Recipe(kind="imagery")
    bench.build(images)
    assert bench.seen_at(middle)[0, 3] == 0


def test_what_failed_is_tried_again_on_the_next_day(nginx: Nginx, tmp_path: Path) -> None:
    of = utm(33, 650_000, 5_300_000, 3.0, (300, 250))
    image = Image(id="late", footprint=of.footprint(), asset=nginx.address("late.tif"))
    bench = Bench(tmp_path, nginx.host)
    assert [each.reason for each in bench.build([image]).skipped] == ["missing"]
    bench.now += timedelta(days=1)
    first = bench.build([image])
    assert [each.since for each in first.skipped] == [NOON.isoformat()]
    assert first.made == 0
    plain(nginx, "late", of, (200, 100, 50))
    assert bench.build([image]).read == 0
    bench.now += timedelta(days=1)
    assert bench.build([image]).read == 1
    middle = np.array([image.footprint.centroid.coords[0]])
    assert np.abs(bench.seen_at(middle)[0] - [200, 100, 50, 255]).max() < 12


@pytest.mark.parametrize("were_read", [False, True])
def test_however_much_failed_images_cost_new_ones_are_read(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path, *, were_read: bool
) -> None:
    """Trying the failed ones again takes a tenth of the budget, and each day other ones have their turn."""
    new = drone(nginx, "new", 650_000, 5_310_000)[0]
    of = utm(33, 650_000, 5_300_000, 3.0, (300, 250))
    failing = [Image(id=f"{n}", footprint=of.footprint(), asset=host.address(f"{n}.tif")) for n in range(12)]
    bench = Bench(tmp_path, nginx.host, host.host)
    if were_read:
        write_image(tmp_path / "read.tif", of, Writing(bands=of.colours()))
        content = (tmp_path / "read.tif").read_bytes()
        host.script = lambda request: request.give(content)
        bench.build(failing)
        bench.now += timedelta(days=8)
    host.script = lambda request: hang_up(request, FIRST // 2)
    before = bench.build(failing)
    assert {each.reason for each in before.skipped} == (set() if were_read else {"truncated"})

    def asked_on_the_next_day() -> set[str]:
        bench.now += timedelta(days=1)
        host.asked.clear()
        tally = bench.build([*failing, new], budget=Budget(bytes=before.bytes))
        assert "new" in tally.shown
        assert len(tally.shown) == (len(failing) + 1 if were_read else 1)
        return {each.path for each in host.asked}

    first, second = asked_on_the_next_day(), asked_on_the_next_day()
    assert first
    assert second
    assert first.isdisjoint(second)


def test_a_tenth_of_a_budget_of_time_is_over_before_the_rest() -> None:
    budget = Budget(until=time.monotonic() + 5.0)
    is_over = budget.tenth()
    assert not is_over()
    time.sleep(0.6)
    assert is_over()
    assert not budget.is_spent


def hang_up(request: Request, sent: int = 3) -> None:
    size = sent + 97
    body = b"II*".ljust(sent)
    request.answer("206 Partial Content", body, f"Content-Range: bytes 0-{size - 1}/{size}", length=size)
    request.connection.shutdown(socket.SHUT_RDWR)


def change_each_time(request: Request) -> None:
    request.give(b"II*\0" + bytes(10**6), etag=f'"{time.monotonic_ns()}"')


@pytest.mark.parametrize(
    "script",
    [lambda request: request.answer("503 Service Unavailable"), hang_up, change_each_time],
    ids=["is down", "hangs up", "changes the image"],
)
def test_what_was_read_is_shown_while_its_host_is_away(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path, script: Callable[[Request], None]
) -> None:
    of = utm(33, 450_000, 5_400_000, 3.0, (300, 250))
    plain(nginx, "lent", of, (200, 100, 50))
    content = (nginx.root / "lent.tif").read_bytes()
    host.script = lambda request: request.give(content)
    image = Image(id="lent", footprint=of.footprint(), asset=host.address("lent.tif"))
    bench = Bench(tmp_path, nginx.host, host.host)
    bench.build([image])
    host.script = script
    bench.now += timedelta(days=8)
    assert bench.build([image]).read == 1
    beside = drone(nginx, "beside", 451_000, 5_400_000)[0]
    tally = bench.build([image, beside])
    assert tally.left > 0
    middle = np.array([image.footprint.centroid.coords[0]])
    assert np.abs(bench.seen_at(middle)[0] - [200, 100, 50, 255]).max() < 12
    bench.now += timedelta(days=60)
    bench.build([image, beside])
    assert bench.seen_at(middle)[0, 3] < 255


def test_a_host_that_fails_again_and_again_is_left_alone(host: ScriptedHost, tmp_path: Path) -> None:
    host.script = lambda request: request.answer("500 Internal Server Error")
    images = [
        Image(
            id=f"{n}",
            footprint=shapely.box(10 + n / 50, 10, 10.001 + n / 50, 10.001),
            asset=host.address(f"{n}.tif"),
        )
        for n in range(30)
    ]
    elsewhere = [replace(each, footprint=translate(each.footprint, 30.0)) for each in images]
    bench = Bench(tmp_path, host.host, workers=1)
    attempts = 3
    with bench.workers() as running:
        tally = bench.build(images, running=running)
        assert len(tally.skipped) == 30
        assert len(host.asked) == GIVEN_UP * attempts
        # in another partition it gets one more chance
        assert len(bench.build(elsewhere, running=running).skipped) == 30
        assert len(host.asked) == (GIVEN_UP + 1) * attempts
        give_files(host, tmp_path)
        for number in range(3):
            of = utm(33, 450_000 + 8_000 * number, 5_400_000, 3.0, (300, 250))
            write_image(tmp_path / f"well-{number}.tif", of, Writing(bands=of.colours()))
            well = Image(id="well", footprint=of.footprint(), asset=host.address(f"well-{number}.tif"))
            assert bench.build([well], running=running).read == 1
    assert len(bench.build(elsewhere).skipped) == 30, "they are tried again on the next day"


@pytest.mark.parametrize(("received", "is_left_alone"), [(DELIVERED - 1, True), (DELIVERED, False)])
def test_images_that_take_long_are_no_fault_of_a_host_that_delivers(
    received: int, *, is_left_alone: bool
) -> None:
    """Else a few large ones would leave all others of the host unread, every day anew."""
    images = [
        Image(id=f"{n}", footprint=shapely.box(10, 10, 11, 11), asset=f"https://example.org/{n}.tif")
        for n in range(GIVEN_UP + 1)
    ]
    *slow, other = (each.reading or "" for each in images)
    asking = Asking(images, {}, Rules(), Counter(), Tally(), Budget(), lambda: NOON)
    for reading in slow:
        asking.learn(reading, {"reason": "slow", "detail": "", "etag": "", "requests": 1, "bytes": received})
    assert asking.is_given_up(other) == is_left_alone


def test_an_image_for_which_nobody_was_asked_says_nothing_of_its_host() -> None:
    """Neither that it is down nor that it is back: its worker died, or the image's own address is refused."""
    images = [
        Image(id=f"{n}", footprint=shapely.box(10, 10, 11, 11), asset=f"https://example.org/{n}.tif")
        for n in range(GIVEN_UP + 2)
    ]
    unasked, *down, other = (each.reading or "" for each in images)
    asking = Asking(images, {}, Rules(), Counter(), Tally(), Budget(), lambda: NOON)
    for reading in down:
        assert not asking.is_given_up(other)
        asking.learn(reading, {"reason": "unreachable", "requests": 3})
        asking.learn(unasked, {"reason": "unknown_host", "requests": 0})
    assert asking.is_given_up(other)


def flights_of(host: ScriptedHost, folder: Path) -> list[Image]:
    """More images than the failures after which their host is left alone, each in its own blocks."""
    give_files(host, folder)
    images = []
    for number in range(GIVEN_UP + 4):
        of = utm(33, 450_000 + 8_000 * number, 5_400_000, 3.0, (300, 250))
        write_image(folder / f"{number}.tif", of, Writing(bands=of.colours()))
        images.append(Image(id=f"{number}", footprint=of.footprint(), asset=host.address(f"{number}.tif")))
    return images


def test_what_a_host_that_is_left_alone_once_gave_stays_as_it_is(host: ScriptedHost, tmp_path: Path) -> None:
    """Its blocks are neither remade without it nor counted as made."""
    images = flights_of(host, tmp_path)
    bench = Bench(tmp_path, host.host, workers=1)
    first = bench.build(images)
    middles = np.array([each.footprint.centroid.coords[0] for each in images])
    before = bench.seen_at(middles)
    assert (before[:, 3] == 255).all()

    host.script = lambda request: request.answer("503 Service Unavailable")
    bench.recipe = Recipe(feather=8)
    away = bench.build(images)

    assert (away.read, away.made, away.left) == (len(images), 0, first.blocks)
    assert (bench.seen_at(middles) == before).all()
    give_files(host, tmp_path)
    assert bench.build(images).made == first.blocks


def test_a_host_that_is_away_for_long_and_left_alone_is_seen_in_grey(
    host: ScriptedHost, tmp_path: Path
) -> None:
    images = flights_of(host, tmp_path)
    bench = Bench(tmp_path, host.host, workers=1)
    bench.build(images)
    host.script = lambda request: request.answer("503 Service Unavailable")
    bench.now += timedelta(days=60)
    bench.recipe = Recipe(feather=8)

    assert {each.reason for each in bench.build(images).skipped} == {"server_fault", "unreachable"}
    seen = bench.seen_at(np.array([each.footprint.centroid.coords[0] for each in images]))
    assert ((seen[:, 3] > 0) & (seen[:, 3] < 255)).all()


def test_a_large_image_has_its_limits_for_each_use_of_it(nginx: Nginx, tmp_path: Path) -> None:
    of = utm(33, 450_000, 5_500_000, 12.0, (1200, 1200))
    write_image(nginx.root / "large.tif", of, Writing(bands=of.colours()))
    image = Image(id="large", footprint=of.footprint(), asset=nginx.address("large.tif"))
    free = Bench(tmp_path / "free", nginx.host, workers=1).build([image])
    assert free.blocks > TOGETHER

    limits = {**LIMITS, "bytes": free.bytes // 2}
    limited = Bench(tmp_path / "limited", nginx.host, workers=1, limits=limits).build([image])

    assert (limited.read, limited.made) == (1, free.blocks)


@pytest.mark.parametrize("which", ["tiles", "lossless"])
def test_a_partition_whose_archive_was_deleted_says_so_and_is_made_anew(
    nginx: Nginx, tmp_path: Path, which: str
) -> None:
    images = [drone(nginx, f"kept-{n}", 700_000 + 9_000 * n, 5_250_000)[0] for n in range(3)]
    bench = Bench(tmp_path, nginx.host)
    made = bench.build(images).made
    state = bench.partition(bench.tile).state()
    bench.store.delete([f"{bench.partition(bench.tile).at}{getattr(state, which)}"])

    with pytest.raises(StoreUnavailable, match=r"An archive of the partition 6-35-22 is gone"):
        bench.build(images[:-1])

    assert bench.build(images).made == made
    assert len(bench.seen_at(np.array([images[0].footprint.centroid.coords[0]]))) == 1


def test_a_full_disk_is_no_images_fault(nginx: Nginx) -> None:
    image = drone(nginx, "written", 700_000, 5_230_000)[0]
    with a_small_disk() as disk:
        bench = Bench(disk, nginx.host)
        fill(disk, 8)
        with pytest.raises(OSError, match=r"\.chip") as full:
            bench.build([image])
    assert full.value.errno == errno.ENOSPC


@pytest.mark.parametrize("reason", ["damaged", "truncated", "too_large"])
def test_a_file_that_cannot_be_read_is_not_tried_again_until_it_changes(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path, reason: str
) -> None:
    """It opens, and fails only in its last blocks: it is neither half shown nor are others read with it."""
    of = utm(33, 450_000, 5_500_000, 12.0, (1200, 1200))
    write_image(tmp_path / "large.tif", of, Writing(bands=of.colours()))
    whole = (tmp_path / "large.tif").read_bytes()
    part = whole[: len(whole) * 2 // 3]
    broken = {"damaged": part + bytes(len(whole) - len(part)), "truncated": part}
    give = {"content": broken.get(reason, whole), "etag": '"1"'}
    host.script = lambda request: request.give(**give)  # type: ignore[arg-type]
    image = Image(id="large", footprint=of.footprint(), asset=host.address())
    beside = drone(nginx, f"beside-{reason}", 455_000, 5_495_000)[0]
    limits = {**LIMITS, "bytes": 1_100_000} if reason == "too_large" else LIMITS
    bench = Bench(tmp_path / "bench", nginx.host, host.host, workers=1, limits=limits)
    bench.build([image, beside])
    bench.now += timedelta(days=1)
    bench.build([image, beside])  # in the first build, some of its blocks were finished before it failed
    for _ in range(2):
        bench.now += timedelta(days=1)
        tally = bench.build([image, beside])
        assert (tally.requests, tally.made, tally.read) == (1, 0, 1)
        assert [(each.reason, each.since) for each in tally.skipped] == [(reason, NOON.isoformat())]
        assert bench.seen_at(np.array([image.footprint.centroid.coords[0]]))[0, 3] < 255

    bench.recipe = Recipe(libraries=("another",))
    bench.now += timedelta(days=1)
    assert bench.build([image, beside]).requests > 2, "it is tried again"
    give |= {"content": whole, "etag": '"2"'}
    bench.limits = LIMITS
    bench.now += timedelta(days=1)
    assert bench.build([image, beside]).read == 2


def crash(_: Request, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (crash, "crashed"),
        (lambda request, _: hang_up(request), "truncated"),
        (lambda request, _: request.answer("503 Service Unavailable"), "server_fault"),
    ],
    ids=["its worker crashes", "its host hangs up", "its host gives no more"],
)
def test_what_was_read_is_shown_while_it_cannot_be_read_again(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path, fail: Callable[[Request, int], None], reason: str
) -> None:
    """For a month from the first failure on, though its host answers whenever it is asked for changes."""
    of = utm(33, 530_000, 5_430_000, 3.0, (300, 250))
    write_image(tmp_path / "failing.tif", of, Writing(bands=of.colours()))
    content = (tmp_path / "failing.tif").read_bytes()
    image = Image(id="failing", footprint=of.footprint(), asset=host.address("failing.tif"))
    images = [image, drone(nginx, f"beside-{reason}", 531_200, 5_430_000)[0]]
    middles = np.array([each.footprint.centroid.coords[0] for each in images])
    bench = Bench(tmp_path / "bench", nginx.host, host.host, workers=1)
    give_files(host, tmp_path)
    bench.build(images[:1])

    def rebuilt() -> Tally:
        looks = iter([0])  # the first request is a look, which opens the file
        with bench.workers() as workers:

            def answer(request: Request) -> None:
                if next(looks, None) is None:
                    fail(request, workers.pids[0])
                else:
                    request.give(content)

            host.script = answer
            return bench.build(images, running=workers)

    for _ in range(4):
        bench.now += timedelta(days=8)
        tally = rebuilt()
        assert (tally.read, tally.waiting, tally.skipped) == (1, [images[1].id], [])
        assert bench.seen_at(middles)[0, 3] == 255
    for _ in range(2):  # not again for a month
        bench.now += timedelta(days=8)
        assert [(each.id, each.reason) for each in rebuilt().skipped] == [("failing", reason)]
        shown = bench.seen_at(middles)[:, 3]
        assert shown[0] < 255
        assert shown[1] == 255
    give_files(host, tmp_path)
    bench.now += timedelta(days=1)
    assert bench.build(images).read == 2


@pytest.mark.parametrize("budget", [Budget(), Budget(bytes=0)], ids=["read", "grey"])
def test_a_block_that_cannot_be_composed_is_told_with_the_reason(
    nginx: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: Budget
) -> None:
    image = drone(nginx, "uncomposed", 535_000, 5_436_000)[0]
    composing = Building._composing

    def deadly(*given: Any, **stated: Any) -> Job:
        job = composing(*given, **stated)
        return replace(job, order={**job.order, "block": None})

    monkeypatch.setattr(Building, "_composing", deadly)
    tally = Bench(tmp_path, nginx.host).build([image], budget=budget)
    assert len(tally.uncomposed) >= tally.left == tally.blocks
    assert all(": crashed: its process ended with code" in each for each in tally.uncomposed)
    assert "composing a block failed" in in_words(Tally.total([tally]), "1 image")
