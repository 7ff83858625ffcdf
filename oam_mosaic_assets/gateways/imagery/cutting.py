"""Which image is cut for which blocks, and in which order: block by block, opening small images only once.

A small image that is read itself is cut for all its blocks at once; its chips of later blocks wait on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import shapely

from oam_mosaic_assets.core.imagery.blocks import Tile
from oam_mosaic_assets.core.imagery.outcome import Reason
from oam_mosaic_assets.core.imagery.recipe import Image
from oam_mosaic_assets.core.imagery.state import Looked
from oam_mosaic_assets.gateways.imagery.workers import Job, Workers

TOGETHER: Final = 4
"""An image is cut for all its blocks at once if it touches no more than this many. From the tiles of a
TiTiler it is cut block by block: those of one take long enough, and opening it costs nothing."""

EARLY: Final = 256
"""About how many chips may wait for their blocks; one takes up to 4 MB, with weights 5 MB."""


@dataclass(slots=True)
class InWork:
    """A block whose chips are being cut.

    Attributes:
        members: its images, the topmost first.
        missing: those that are still to be cut.
        chips: the chips of those that show something in it.
        states: the states of their COGs when they were cut.
        is_put_off: whether it is not made in this build, because one of them waits for its host, for another
            day as its worker crashed, or for another budget.
    """

    members: Sequence[int]
    missing: set[int] = field(default_factory=set)
    chips: dict[int, Path] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    is_put_off: bool = False

    def take(self, image: int, state: str | None, chip: Path) -> None:
        """Take the chip of an image; its state is None if it waits for another build."""
        self.missing.discard(image)
        if state is None:
            self.is_put_off = True
        else:
            self.states[image] = state
        if state is not None and state.startswith("="):
            if chip.exists():
                self.chips[image] = chip
        else:  # an image that failed midway is not half shown
            chip.unlink(missing_ok=True)


class Cutting:
    """Makes some blocks of a partition."""

    def __init__(
        self,
        images: Sequence[Image],
        members: Mapping[Tile, Sequence[int]],
        hosts: Mapping[str, str],
        scratch: Path,
        workers: Workers,
        *,
        feather: int,
        learn: Callable[[str, Mapping[str, Any]], Looked | None],
        is_given_up: Callable[[str], bool],
        is_awaited: Callable[[str], bool],
        compose: Callable[[Tile, InWork], Job],
        is_over: Callable[[], bool],
    ) -> None:
        """Nothing is started yet.

        Args:
            images: those of the partition.
            members: which of them touch each block, the topmost first.
            hosts: the host of each `Image.reading`.
            scratch: folder for chips.
            workers: the processes that cut and compose.
            feather: width in pixels of an image's soft edge; 0 is a sharp edge.
            learn: records the answer for one; returns what is known then, None if it waits for another build.
            is_given_up: whether one is not to be requested.
            is_awaited: whether blocks of one that is given up wait for its host.
            compose: makes the job that composes a block.
            is_over: whether no more images may be read; blocks that lack any then wait for another build.
        """
        self._images = images
        self._members = members
        self._hosts = hosts
        self._scratch = scratch
        self._workers = workers
        self._feather = feather
        self._learn = learn
        self._is_given_up = is_given_up
        self._is_awaited = is_awaited
        self._compose = compose
        self._is_over = is_over
        self._pending: dict[Tile, None] = {}
        self._ready: deque[Job] = deque()
        self._active: dict[Tile, InWork] = {}
        self._put_off: deque[tuple[Tile, InWork]] = deque()
        self._ahead: set[tuple[Tile, int]] = set()  # asked for, or cut already, for blocks that wait
        self._early: dict[tuple[Tile, int], str | None] = {}
        self._blocks: dict[int, list[Tile]] = {}

    def run(self, due: Sequence[Tile]) -> Iterator[tuple[Tile, InWork, Mapping[str, Any] | None]]:
        """Make blocks in this order; yields each with the answer of its job, None if it was put off."""
        self._pending = dict.fromkeys(due)
        for block in due:
            for image in self._members[block]:
                self._blocks.setdefault(image, []).append(block)
        for job, answer in self._workers.run(self._next_job):
            yield from self._those_put_off()
            if isinstance(job.tag, Tile):
                yield job.tag, self._active.pop(job.tag), answer
                continue
            image, _ = job.tag
            looked = self._learn(self._images[image].reading or "", answer)
            self._hand_out(job, None if looked is None else looked.state)
        yield from self._those_put_off()

    def _those_put_off(self) -> Iterator[tuple[Tile, InWork, None]]:
        while self._put_off:
            yield *self._put_off.popleft(), None

    def _next_job(self, may_begin: Callable[[Job], bool]) -> Job | None:
        while True:
            if (job := next_of(self._ready, may_begin)) is not None:
                if isinstance(job.tag, Tile) or not self._is_dropped(job):
                    return job
                continue
            # one block more than workers, so that none is idle while another cuts a block's last image
            if not self._pending or len(self._active) > self._workers.count or self._is_over():
                return None
            block = next(iter(self._pending))
            del self._pending[block]
            self._begin(block)

    def _begin(self, block: Tile) -> None:
        work = InWork(self._members[block])
        asked = self._ahead.intersection((block, image) for image in work.members)
        self._ahead -= asked
        for image in work.members:
            if (block, image) in self._early:
                work.take(image, self._early.pop((block, image)), self._chip(block, image))
            elif (reading := self._images[image].reading) and self._is_awaited(reading):
                work.is_put_off = True
        if work.is_put_off:  # nothing is requested for it in vain
            self._put_off.append((block, work))
            return
        self._active[block] = work
        for image in work.members:
            if image in work.states:
                continue
            if (block, image) in asked or self._ask(block, image):
                work.missing.add(image)
        if not work.missing:  # its chips were all cut with other blocks', or there are none to cut
            self._ready.append(self._compose(block, work))

    def _ask(self, block: Tile, which: int) -> bool:
        """Queue the cutting of an image; returns whether that was done."""
        image = self._images[which]
        if image.reading is None or self._is_given_up(image.reading):
            return False
        blocks = [each for each in self._blocks[which] if each == block or each in self._pending]
        if image.tiles or len(blocks) > TOGETHER or len(self._ahead) > EARLY:
            blocks = [block]
        self._ahead.update((each, which) for each in blocks if each != block)
        order = {
            "do": "chip",
            "blocks": [[each.x, each.y] for each in blocks],
            "targets": [str(self._chip(each, which)) for each in blocks],
            "address": image.asset,
            "render": image.render_params,
            "tiles": image.tiles,
            "footprint": shapely.to_wkb(image.footprint, hex=True),
            "feather": self._feather,
        }
        self._ready.append(Job(order, host=self._hosts[image.reading], tag=(which, blocks)))
        return True

    def _is_dropped(self, job: Job) -> bool:
        """Whether its image is not read after all, as it was given up meanwhile, or the budget is spent.

        Its blocks go on without an image that was given up, and wait for one that is awaited or beyond the
        budget.
        """
        image, _ = job.tag
        reading = self._images[image].reading or ""
        if self._is_given_up(reading):
            self._hand_out(job, None if self._is_awaited(reading) else f"!{Reason.UNREACHABLE}")
        elif self._is_over():
            self._hand_out(job, None)
        else:
            return False
        return True

    def _hand_out(self, job: Job, state: str | None) -> None:
        """Hand an image's chips to their blocks; those that now have all of theirs are composed, or put off.

        Args:
            job: the job that cut them.
            state: the state of its COG; None if it waits for another build.
        """
        image, blocks = job.tag
        for block in blocks:
            work = self._active.get(block)
            if work is None:
                if block in self._pending:
                    self._early[block, image] = state
                else:  # it was put off meanwhile
                    self._chip(block, image).unlink(missing_ok=True)
                continue
            work.take(image, state, self._chip(block, image))
            if work.missing:
                continue
            if work.is_put_off:
                self._put_off.append((block, self._active.pop(block)))
            else:
                self._ready.appendleft(self._compose(block, work))

    def _chip(self, block: Tile, image: int) -> Path:
        return self._scratch / f"{name_of(block)}-{image}.chip"


def next_of(jobs: deque[Job], may_begin: Callable[[Job], bool]) -> Job | None:
    """Take out the first job that may start; None if there is none."""
    for index, job in enumerate(jobs):
        if may_begin(job):
            del jobs[index]
            return job
    return None


def name_of(block: Tile) -> str:
    """The name of a block within its partition."""
    return f"{block.x}-{block.y}"
