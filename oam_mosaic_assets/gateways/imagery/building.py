"""One build of one partition: which blocks it rebuilds, keeps and packs, and what became of each image."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import shapely

from oam_mosaic_assets.core.archive import BrokenArchive, open_archive
from oam_mosaic_assets.core.artifact import sha256_of
from oam_mosaic_assets.core.grid import tile_name
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, PARTITION_ZOOM, Tile, blocks_of
from oam_mosaic_assets.core.imagery.laid import laid_in
from oam_mosaic_assets.core.imagery.outcome import Reason
from oam_mosaic_assets.core.imagery.recipe import WAITING, Image, block_key, on_top_first, waiting_key
from oam_mosaic_assets.core.imagery.state import Looked, Skipped, Tally, looked_of
from oam_mosaic_assets.gateways.imagery.asking import Asking
from oam_mosaic_assets.gateways.imagery.cutting import Cutting, InWork, name_of, next_of
from oam_mosaic_assets.gateways.imagery.packing import LOSSLESS, TILES, metadata_of, pack
from oam_mosaic_assets.gateways.imagery.partition import (
    LEFT_BEHIND,
    STATE,
    UNJOINED,
    Budget,
    Kept,
    Overtaken,
    read_state,
)
from oam_mosaic_assets.gateways.imagery.workers import Job, Workers
from oam_mosaic_assets.gateways.object_store import Headers, PreconditionFailed, StoredObject

_ARCHIVE: Final = Headers("application/vnd.pmtiles")
_JSON: Final = Headers("application/json")
_LONG_AGO: Final = datetime(1, 1, 1, tzinfo=UTC)


class Building:
    """One build of one partition."""

    def __init__(
        self,
        partition: Kept,
        images: Sequence[Image],
        workers: Workers,
        scratch: Path,
        budget: Budget,
        on_progress: Callable[[int], None],
        begun: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.partition = partition
        self.store, self.at, self.now = partition.store, partition.at, partition.now
        self.recipe = partition.recipe
        self.workers, self.scratch, self.budget = workers, scratch, budget
        self.on_progress = on_progress
        self._begun = Counter(begun)
        self.images = on_top_first(map(self.recipe.with_tiles, images), self.recipe.order)
        self.stated = [each.stated for each in self.images]
        self._ids = {each.id for each in self.images}
        self.blocks = _members(self.images, partition.tile)
        self.state, self._etag = read_state(self.store, self.at)
        self.before = replace(self.state, looked=dict(self.state.looked), blocks=dict(self.state.blocks))
        if self.state.recipe != self.recipe.digest:
            self.state.blocks = {}
            for reading, looked in self.state.looked.items():
                if looked.reason:  # other libraries may decode what these could not
                    self.state.looked[reading] = replace(looked, etag="")
        self.tally = Tally(blocks=len(self.blocks))
        self.asking = Asking(
            self.images,
            self.state.looked,
            partition.rules,
            workers.faults,
            self.tally,
            budget,
            partition.now,
        )
        self.fragments: dict[Tile, Path] = {}
        self._there: list[StoredObject] = []
        self._copies: dict[str, Path] = {}
        self._shown: set[int] | None = None

    def done(self) -> Tally:
        """Run the build, until it is complete or the budget is spent.

        Raises:
            Overtaken: another machine has built the partition meanwhile. Blocks that were finished here are
                in the store, for the next attempt to take up.
        """
        self._take_up()
        self.asking.look_again(self.workers)
        due = [each for each in self.blocks if each not in self.fragments and self._is_due(each)]
        self._make(sorted(due, key=self._urgency, reverse=True))
        if self.recipe.has_hints:
            self._make_waiting()
        self._save()
        self._count()
        return self.tally

    def _is_due(self, block: Tile) -> bool:
        """Whether it is not up to date, or holds a version of an image of which no chip was ever cut."""
        key = self._key(block)
        if key is None or key != self.state.key_of(name_of(block)):
            return True
        looked = (self.state.looked.get(self.images[each].reading or "") for each in self.blocks[block])
        return any(each is not None and not each.reason and each.is_seen is None for each in looked)

    def _urgency(self, block: Tile) -> tuple[int, bool, datetime, int]:
        """Sort key, highest first: never made, then with the newest images, then with the most.

        But first come those that were not begun in vain: one that takes all of a budget takes it every time.
        """
        members = self.blocks[block]
        newest = max(self.images[each].updated or _LONG_AGO for each in members)
        is_new = (self.before.key_of(name_of(block)) or WAITING).startswith(WAITING)
        return -self._begun[block.id(BLOCK_ZOOM)], is_new, newest, len(members)

    def _key(self, block: Tile, states: Mapping[int, str] = MappingProxyType({})) -> str | None:
        """The key that the block must have; None if the state of one of its COGs is not known yet.

        Args:
            block: the block.
            states: states of COGs, by image, that take precedence over the partition's.
        """
        members = []
        for each in self.blocks[block]:
            state = self._state_of(each, states)
            if state is None:
                return None
            members.append((self.stated[each], state))
        return block_key(self.recipe, block, members)

    def _state_of(self, image: int, states: Mapping[int, str]) -> str | None:
        """The state of an image's COG; in `states`, if that has one, it is the one when its chip was cut."""
        return states.get(image) or self.state.state_of(self.images[image])

    def _take_up(self) -> None:
        """Take over blocks that an earlier run had finished when it was killed."""
        self._there = list(self.store.keys(self.at))
        for stored in filter(self._is_unjoined, self._there):
            path = self.scratch / f"taken-{len(self.fragments)}-{stored.key.rpartition('/')[2]}"
            if self.store.get_file(stored.key, path) is None:
                continue
            try:
                told = metadata_of(path)
                block = Tile(*told["block"])
                for reading, looked in looked_of(told["looked"]).items():
                    known = self.state.looked.get(reading)
                    if known is None or known.at < looked.at:
                        self.state.looked[reading] = looked
            except (BrokenArchive, KeyError, TypeError):
                continue
            if block in self.blocks and told.get("key") == self._key(block):
                self.fragments[block] = path

    def _make(self, due: list[Tile]) -> None:
        taken_up = len(self.fragments)
        cutting = Cutting(
            self.images,
            self.blocks,
            self.asking.hosts,
            self.scratch,
            self.workers,
            feather=self.recipe.feather,
            learn=self.asking.learn,
            is_given_up=self.asking.is_given_up,
            is_awaited=self.asking.is_awaited,
            compose=self._compose,
            is_over=lambda: self.budget.is_spent,
        )
        for block, work, answer in cutting.run(due):
            if answer is not None:
                self._finish(block, answer)
            elif self.budget.is_spent:
                self._begun[block.id(BLOCK_ZOOM)] += 1
            for chip in work.chips.values():
                chip.unlink()
            self.on_progress(len(self.blocks) - len(due) + len(self.fragments) - taken_up)

    def _make_waiting(self) -> None:
        """Make blocks in grey, of footprints: those that were never made, or may not or need not stay."""
        jobs = deque[Job]()
        for block, members in self.blocks.items():
            before = self.before.key_of(name_of(block))
            is_made = not (before or WAITING).startswith(WAITING)
            if block in self.fragments or (is_made and self._may_stay(block) and not self._is_bare(block)):
                continue
            key = waiting_key(self.recipe, block, (self.stated[each] for each in members))
            if key != before:
                jobs.append(self._composing(block, key, hinted=members))
        for job, answer in self.workers.run(lambda may: next_of(jobs, may)):
            self._is_composed(job.tag, answer)

    def _may_stay(self, block: Tile) -> bool:
        """Whether a block may stay as it was: not with pixels of images that left the catalogue."""
        key, *ids = self.before.blocks.get(name_of(block), [""])
        is_grey = key.startswith(WAITING)
        return bool(key) and self._ids.issuperset(ids) and (self.recipe.has_hints or not is_grey)

    def _is_bare(self, block: Tile) -> bool:
        """Whether a block that is not up to date shows nothing, not even that an image waits there."""
        if not self._is_due(block):
            return False
        if self._shown is None:
            with open_archive(self._fetched(self.before.tiles)) as archive:
                self._shown = set(laid_in(archive).tile_id.tolist())
        return block.id(BLOCK_ZOOM) not in self._shown

    def _compose(self, block: Tile, work: InWork) -> Job:
        looked = {
            image.reading: asdict(self.state.looked[image.reading])
            for image in (self.images[each] for each in work.members)
            if image.reading in self.state.looked
        }
        failed = [each for each in work.members if (self._state_of(each, work.states) or "!")[0] == "!"]
        chips = [work.chips[each] for each in work.members if each in work.chips]
        hinted = failed if self.recipe.has_hints else ()
        return self._composing(block, self._key(block, work.states), chips, hinted=hinted, looked=looked)

    def _composing(
        self,
        block: Tile,
        key: str | None,
        chips: Sequence[Path] = (),
        *,
        hinted: Sequence[int],
        looked: Mapping[str, Any] = MappingProxyType({}),
    ) -> Job:
        """The job that composes a block."""
        order = {
            "do": "compose",
            "block": [block.x, block.y],
            "chips": [str(each) for each in chips],
            "is_feathered": self.recipe.feather > 0,
            "hints": [shapely.to_wkb(self.images[each].footprint, hex=True) for each in hinted],
            "target": str(self._fragment(block)),
            "told": {
                "block": [block.x, block.y],
                "key": key,
                "images": [self.images[each].id for each in self.blocks[block]],
                "looked": dict(looked),
            },
        }
        return Job(order, tag=block)

    def _finish(self, block: Tile, answer: Mapping[str, Any]) -> None:
        if self._is_composed(block, answer):
            self.store.put_file(self._unjoined(block), self._fragment(block), _ARCHIVE)
            self.tally.made += 1

    def _is_composed(self, block: Tile, answer: Mapping[str, Any]) -> bool:
        if reason := answer.get("reason"):
            name = tile_name(block.id(BLOCK_ZOOM))
            self.tally.uncomposed.append(f"{name}: {reason}: {answer['detail']}")
            self._fragment(block).unlink(missing_ok=True)
            return False
        self.fragments[block] = self._fragment(block)
        return True

    def _fragment(self, block: Tile) -> Path:
        return self.scratch / f"{name_of(block)}.pmtiles"

    def _fetched(self, name: str) -> Path:
        """A copy of one of the archives that there were before; fetched once. Raises as `Kept.lose`."""
        if name not in self._copies:
            path = self.partition.fetch(name, self.scratch)
            if path is None:
                self.partition.lose(self.before)
            self._copies[name] = path
        return self._copies[name]

    def _save(self) -> None:
        """Pack the blocks that there are now, and store the state that names the result."""
        state = self.state
        kept = [each for each in self.blocks if each not in self.fragments and self._may_stay(each)]
        keys = {name_of(block): self.before.blocks[name_of(block)] for block in kept}
        for block, path in self.fragments.items():
            told = metadata_of(path)
            keys[name_of(block)] = [told["key"], *told["images"]]
        state.recipe = self.recipe.digest
        for gone in state.looked.keys() - {each.reading for each in self.images}:
            del state.looked[gone]
        if keys != self.before.blocks:
            self._pack(kept)
        state.blocks = keys
        if state.to_json() != self.before.to_json():
            try:
                self.store.put_bytes(
                    f"{self.at}{STATE}",
                    state.to_json(),
                    _JSON,
                    if_match=self._etag or None,
                    if_absent=not self._etag,
                )
            except PreconditionFailed:
                raise Overtaken from None
        self._tidy_up()

    def _tidy_up(self) -> None:
        """Delete what the state no longer names: archives of before, and blocks that are packed by now.

        What another machine may be about to name stays: blocks that it has finished since this build began,
        and other archives unless they are old.
        """
        mine = {self.before.tiles, self.before.lossless} - {self.state.tiles, self.state.lossless, ""}
        gone = {f"{self.at}{each}" for each in mine}
        gone |= {self._unjoined(each) for each in self.fragments}
        named = {f"{self.at}{each}" for each in (STATE, self.state.tiles, self.state.lossless)}
        for each in self._there:
            is_old = self.now() - each.written_at > LEFT_BEHIND
            if self._is_unjoined(each) or (is_old and each.key not in named):
                gone.add(each.key)
        self.store.delete(sorted(gone))

    def _unjoined(self, block: Tile) -> str:
        return f"{self.at}{UNJOINED}{name_of(block)}.pmtiles"

    def _is_unjoined(self, stored: StoredObject) -> bool:
        return stored.key.startswith(f"{self.at}{UNJOINED}")

    def _pack(self, kept: list[Tile]) -> None:
        old: dict[str, Path] = {}
        if kept:
            old = {TILES: self._fetched(self.before.tiles), LOSSLESS: self._fetched(self.before.lossless)}
        if not kept and not self.fragments:
            self.state.tiles = self.state.lossless = ""
            return
        pack(self.scratch, old, self.fragments, kept)
        names = []
        for name in (TILES, LOSSLESS):
            path = self.scratch / name
            names.append(f"{sha256_of(path)[:16]}-{name}")
            self.store.put_file(self.at + names[-1], path, _ARCHIVE)
            path.unlink()
        self.state.tiles, self.state.lossless = names

    def _count(self) -> None:
        self.tally.images = len(self.images)
        unfinished = {each for each in self.blocks if self._is_due(each)}
        self.tally.left = len(unfinished)
        self.tally.unfinished = [each.id(BLOCK_ZOOM) for each in unfinished]
        self.tally.begun = {each: self._begun[each] for each in self.tally.unfinished if self._begun[each]}
        drawn, waits = set[int](), set[int]()
        for block, members in self.blocks.items():
            looked = self.before.looked if block in unfinished else self.state.looked
            key, *ids = self.state.blocks.get(name_of(block), [WAITING])
            if not key.startswith(WAITING):
                drawn |= {
                    each
                    for each in members
                    if self.images[each].id in ids and _is_seen(looked.get(self.images[each].reading or ""))
                }
            if block in unfinished:
                waits.update(members)
        failed = set[int]()
        for index, image in enumerate(self.images):
            became = self.asking.became_of(image, is_drawn=index in drawn, is_finished=index not in waits)
            if isinstance(became, Skipped):
                self.tally.skipped.append(became)
                if became.reason != Reason.ELSEWHERE:
                    failed.add(index)
            elif became:
                self.tally.shown.append(image.id)
            else:
                self.tally.waiting.append(image.id)
        self.tally.read = len(self.tally.shown)
        if self.state.tiles:
            self.tally.partitions = {self.partition.tile.partition: self.tally.shown}
        self.tally.grey = [
            block.id(BLOCK_ZOOM) for block, members in self.blocks.items() if not failed.isdisjoint(members)
        ]


def _is_seen(looked: Looked | None) -> bool:
    return looked is not None and not looked.reason and bool(looked.is_seen)


def _members(images: Sequence[Image], partition: Tile) -> dict[Tile, list[int]]:
    """Which images touch each block of a partition, the topmost first."""
    which, places = blocks_of(np.array([each.footprint for each in images], dtype=object))
    inside = (places >> (BLOCK_ZOOM - PARTITION_ZOOM) == (partition.x, partition.y)).all(axis=1)
    found: dict[Tile, list[int]] = {}
    for image, (x, y) in zip(which[inside].tolist(), places[inside].tolist(), strict=True):
        found.setdefault(Tile(x, y), []).append(image)
    return found
