"""Run the injections, each followed by a build that must succeed, and judge the results."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from oam_mosaic_assets_tests.campaign.builds import Ended
from oam_mosaic_assets_tests.campaign.injection import Injection
from oam_mosaic_assets_tests.campaign.lane import Lane, being_read, running_lane
from oam_mosaic_assets_tests.campaign.reader import Reader
from oam_mosaic_assets_tests.servers.ceph import CephServer

SMALL_PARTS: Final = "rgw multipart min part size = 1024"
"""Makes Ceph accept the small parts that `in_parts` sends."""

AWAY_SECONDS: Final = 15.0
"""How long a build's leftovers may take to go: the kernel and Dagster end processes one after another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of an injection.

    Attributes:
        ended: how the build ended.
        reads: reads made meanwhile, up to the end of the next build.
        invalid: how many faults these reads found.
        left: what the build left behind.
        next_build: how the next build ended, unaided.
        problems: what is not as it must be; empty if all is well.
        seconds: duration, including the next build.
    """

    injection: Injection
    ended: Ended
    reads: int
    invalid: int
    left: Sequence[str]
    next_build: str
    problems: Sequence[str]
    seconds: float

    @property
    def line(self) -> str:
        """A summary for a terminal."""
        by = "run" if self.injection.by_dagster else "command"
        return (
            f"{'ok    ' if not self.problems else 'FAILED'}  {self.seconds:5.1f} s  {self.injection.name} "
            f"({by}) -> {self.ended.how}: {self.ended.head}; reads {self.reads}, invalid {self.invalid}; "
            f"left: {', '.join(self.left) or 'nothing'}; next build: {self.next_build}"
            + "".join(f"\n        {each}" for each in self.problems)
        )


def run(
    ceph: CephServer, injections: Sequence[Injection], *, lanes: int, tell: Callable[[int, Result], object]
) -> list[Result]:
    """Run injections in several installations in parallel; returns the results in the injections' order.

    Args:
        lanes: how many installations for injections into the command; Dagster's runs get one more.
        tell: called after each injection with the number finished so far and the result.
    """
    results: dict[int, Result] = {}
    waiting: dict[bool, queue.SimpleQueue[int]] = {False: queue.SimpleQueue(), True: queue.SimpleQueue()}
    for number, injection in enumerate(injections):
        waiting[injection.by_dagster].put(number)
    faults: list[BaseException] = []
    telling = threading.Lock()

    def work(*, by_dagster: bool) -> None:
        try:
            with running_lane(ceph, with_dagster=by_dagster) as lane, being_read(lane) as reader:
                while True:
                    try:
                        number = waiting[by_dagster].get_nowait()
                    except queue.Empty:
                        return
                    results[number] = _inject(lane, reader, injections[number])
                    with telling:
                        tell(len(results), results[number])
        except BaseException as fault:  # noqa: BLE001  # raised again below, in the calling thread
            faults.append(fault)

    kinds = [each for each in [False] * lanes + [True] if not waiting[each].empty()]
    workers = [threading.Thread(target=work, kwargs={"by_dagster": each}) for each in kinds]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if faults:
        raise faults[0]
    return [results[number] for number in sorted(results)]


def _inject(lane: Lane, reader: Reader, injection: Injection) -> Result:
    clock, reads, invalid = time.monotonic(), reader.reads, len(reader.invalid)
    problems = []
    lane.alter_catalogue()
    try:
        ended = injection.inject(lane)
    except Exception as fault:  # noqa: BLE001  # concerns one injection; the others go on
        ended = Ended("not injected", f"{type(fault).__name__}: {fault}")
    if ended.how not in injection.ends:
        problems.append(
            f"it ended with {ended.how}, not with {' or '.join(sorted(injection.ends))}: {ended.said}"
        )
    if "Traceback" in ended.said:
        problems.append(f"it ended with a traceback: {ended.tail}")
    lane.proxy.forget()
    left = _left(lane, injection)
    unwanted = [each for each in left if not (injection.uploads and "upload" in each)]
    if unwanted and not injection.leaves:
        problems.append(f"it left {', '.join(unwanted)}")
    if any("process" in each for each in left):
        problems.append("a process of it is at work")
    lane.heal()

    lane.alter_catalogue()
    again = time.monotonic()
    try:
        following = lane.start().wait()
        next_build = f"{following.how}, {time.monotonic() - again:.0f} s"
        if following.how not in {"0", "SUCCESS"}:
            problems.append(f"the next build ended with {following.how}: {following.tail}")
        pointer = lane.is_whole()
        if pointer.images < 1:
            problems.append("the mosaic is empty")
    except Exception as fault:  # noqa: BLE001  # concerns one injection; the others go on
        next_build = "failed"
        problems.append(f"after the next build: {type(fault).__name__}: {fault}")
    remains = [each for each in lane.left_behind() if not (injection.uploads and "upload" in each)]
    if remains:
        problems.append(f"after the next build there are {', '.join(remains)}")
    wrong = reader.invalid[invalid:]
    problems += wrong[:3] if reader.reads > reads else ["nobody read anything meanwhile"]
    lane.heal()
    return Result(
        injection=injection,
        ended=ended,
        reads=reader.reads - reads,
        invalid=len(wrong),
        left=left,
        next_build=next_build,
        problems=problems,
        seconds=time.monotonic() - clock,
    )


def _left(lane: Lane, injection: Injection) -> list[str]:
    """What a build leaves, once everything that goes by itself is gone."""
    deadline = time.monotonic() + AWAY_SECONDS
    while left := lane.left_behind():
        is_settled = (injection.leaves or injection.uploads) and not any("process" in each for each in left)
        if is_settled or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return left
