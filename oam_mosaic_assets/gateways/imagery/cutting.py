"""Which image is cut for which blocks, and in which order: blocks one after another, each image opened once.

A small image is cut for all its blocks at a time. What it shows of blocks that come later waits on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import shapely

from oam_mosaic_assets.core.imagery.blocks import Tile
from oam_mosaic_assets.core.imagery.recipe import Image
from oam_mosaic_assets.core.imagery.state import Looked
from oam_mosaic_assets.gateways.imagery.workers import Job, Workers

TOGETHER: Final = 4
"""Blocks for which an image is cut at a time, where it touches no more."""

EARLY: Final = 256
"""Chips that wait for their blocks, about; one has up to 4 MB."""


@dataclass(slots=True)
class InWork:
    """A block whose chips are being cut.

    Attributes:
        members: its images, those on top first.
        missing: those that are not done.
        chips: of those that show something of it.
        states: of their COGs when they were cut.
        is_put_off: whether a host is away that had one of them; the block stays as it is until it is back.
    """

    members: Sequence[int]
    missing: set[int] = field(default_factory=set)
    chips: dict[int, Path] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    is_put_off: bool = False

    def take(self, image: int, state: str | None, chip: Path) -> None:
        """Take what was cut of an image; without a state it could not be asked."""
        self.missing.discard(image)
        if state is None:
            self.is_put_off = True
        else:
            self.states[image] = state
        if state is not None and state.startswith("="):
            if chip.exists():
                self.chips[image] = chip
        else:  # what was cut before it failed is not half shown
            chip.unlink(missing_ok=True)


class Cutting:
    """The making of some blocks of a partition."""

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
        compose: Callable[[Tile, InWork], Job],
        is_over: Callable[[], bool],
    ) -> None:
        """Be ready.

        Args:
            images: of the partition.
            members: which of them touch each block, those on top first.
            hosts: that each address asks.
            scratch: for chips.
            workers: who cut and compose.
            feather: pixels of an image's edge that are to be soft.
            learn: told what became of an address; gives what is known then, None where its host is away.
            is_given_up: whether an address is not to be asked.
            compose: makes the job that puts a block together.
            is_over: whether no block may be begun any more.
        """
        self._images = images
        self._members = members
        self._hosts = hosts
        self._scratch = scratch
        self._workers = workers
        self._feather = feather
        self._learn = learn
        self._is_given_up = is_given_up
        self._compose = compose
        self._is_over = is_over
        self._pending: dict[Tile, None] = {}
        self._ready: deque[Job] = deque()
        self._active: dict[Tile, InWork] = {}
        self._asked: set[tuple[Tile, int]] = set()
        self._early: dict[tuple[Tile, int], str | None] = {}
        self._blocks: dict[int, list[Tile]] = {}

    @property
    def left(self) -> int:
        """Blocks that were not begun."""
        return len(self._pending)

    def run(self, due: Sequence[Tile]) -> Iterator[tuple[Tile, InWork, Mapping[str, Any] | None]]:
        """Make blocks in this order; each comes with the answer to its making, None where it was put off."""
        self._pending = dict.fromkeys(due)
        for block in due:
            for image in self._members[block]:
                self._blocks.setdefault(image, []).append(block)
        for job, answer in self._workers.run(self._next_job):
            if isinstance(job.tag, Tile):
                yield job.tag, self._active.pop(job.tag), answer
                continue
            for block in self._taken(job, answer):
                work = self._active[block]
                if work.is_put_off:
                    yield block, self._active.pop(block), None
                else:
                    self._ready.appendleft(self._compose(block, work))

    def _next_job(self, may_begin: Callable[[Job], bool]) -> Job | None:
        while True:
            if (job := next_of(self._ready, may_begin)) is not None:
                return job
            # a block more than there are workers, so that none waits for the others' last image
            if not self._pending or len(self._active) > self._workers.count or self._is_over():
                return None
            block = next(iter(self._pending))
            del self._pending[block]
            self._begin(block)

    def _begin(self, block: Tile) -> None:
        work = self._active[block] = InWork(self._members[block])
        for image in work.members:
            if (block, image) in self._early:
                work.take(image, self._early.pop((block, image)), self._chip(block, image))
            elif (block, image) in self._asked or self._ask(block, image):
                work.missing.add(image)
        if not work.missing:  # all of it was cut with others, or there is nothing to cut
            self._ready.append(self._compose(block, work))

    def _ask(self, block: Tile, which: int) -> bool:
        """Have an image cut; whether it is."""
        image = self._images[which]
        if image.asset is None or self._is_given_up(image.asset):
            return False
        blocks = [each for each in self._blocks[which] if each == block or each in self._pending]
        if len(blocks) > TOGETHER or len(self._early) > EARLY:
            blocks = [block]
        self._asked.update((each, which) for each in blocks)
        order = {
            "do": "chip",
            "blocks": [[each.x, each.y] for each in blocks],
            "targets": [str(self._chip(each, which)) for each in blocks],
            "address": image.asset,
            "render": image.render_params,
            "footprint": shapely.to_wkb(image.footprint, hex=True),
            "feather": self._feather,
        }
        self._ready.append(Job(order, host=self._hosts[image.asset], tag=(which, blocks)))
        return True

    def _taken(self, job: Job, answer: Mapping[str, Any]) -> list[Tile]:
        """Take chips to their blocks; those that have all theirs now."""
        image, blocks = job.tag
        looked = self._learn(job.order["address"], answer)
        state = None if looked is None else looked.state
        whole = []
        for block in blocks:
            work = self._active.get(block)
            if work is None:
                self._early[block, image] = state
                continue
            work.take(image, state, self._chip(block, image))
            if not work.missing:
                whole.append(block)
        return whole

    def _chip(self, block: Tile, image: int) -> Path:
        return self._scratch / f"{name_of(block)}-{image}.chip"


def next_of(jobs: deque[Job], may_begin: Callable[[Job], bool]) -> Job | None:
    """The first job that may be begun, taken out."""
    for index, job in enumerate(jobs):
        if may_begin(job):
            del jobs[index]
            return job
    return None


def name_of(block: Tile) -> str:
    """As a partition calls its block."""
    return f"{block.x}-{block.y}"
