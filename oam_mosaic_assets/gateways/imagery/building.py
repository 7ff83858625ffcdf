"""One build of one partition: what is due, what became of each image, what is kept and what is packed."""

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

from oam_mosaic_assets.core.archive import BrokenArchive
from oam_mosaic_assets.core.artifact import sha256_of
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, PARTITION_ZOOM, Tile, blocks_of
from oam_mosaic_assets.core.imagery.outcome import Reason, Unreadable
from oam_mosaic_assets.core.imagery.recipe import Image, block_key, on_top_first
from oam_mosaic_assets.core.imagery.state import FORGIVEN, Looked, Skipped, Tally, looked_of
from oam_mosaic_assets.gateways.imagery.addresses import Rules, target_of
from oam_mosaic_assets.gateways.imagery.cutting import Cutting, InWork, name_of, next_of
from oam_mosaic_assets.gateways.imagery.packing import LOSSLESS, TILES, metadata_of, pack
from oam_mosaic_assets.gateways.imagery.partition import Budget, Kept
from oam_mosaic_assets.gateways.imagery.workers import Job, Workers
from oam_mosaic_assets.gateways.object_store import Headers

GIVEN_UP: Final = 5
"""Failures in a row of one host, after which it is not asked again in a run."""

UNJOINED: Final = "work/"
"""Below a partition's place in the store: blocks that are done and not yet joined."""

_OF_HOSTS: Final = frozenset({Reason.UNREACHABLE, Reason.UNKNOWN_HOST, Reason.SLOW, Reason.SERVER_FAULT})
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
    ) -> None:
        self.partition = partition
        self.store, self.at, self.now = partition.store, partition.at, partition.now
        self.recipe = partition.recipe
        self.workers, self.scratch, self.budget = workers, scratch, budget
        self.on_progress = on_progress
        self.images = on_top_first(images, self.recipe.order)
        self.stated = [each.stated for each in self.images]
        self.blocks = _members(self.images, partition.tile)
        self.state = partition.state()
        self.before = replace(self.state, looked=dict(self.state.looked), blocks=dict(self.state.blocks))
        if self.state.recipe != self.recipe.digest:
            self.state.blocks = {}
        self.tally = Tally(blocks=len(self.blocks))
        self.hosts = {each.asset: _host(each.asset, partition.rules) for each in self.images if each.asset}
        self.faults: Counter[str] = Counter()
        self.fragments: dict[Tile, Path] = {}

    def done(self) -> Tally:
        """All of it, to the end or to the end of the budget."""
        self._take_up()
        self._look_again()
        due = [each for each in self.blocks if each not in self.fragments and self._is_due(each)]
        self._make(sorted(due, key=self._urgency, reverse=True))
        self._save()
        self._count()
        return self.tally

    def _is_due(self, block: Tile) -> bool:
        key = self._key(block)
        return key is None or key != self.state.key_of(name_of(block))

    def _urgency(self, block: Tile) -> tuple[bool, datetime, int]:
        """Blocks that were never made first, then those of the newest images, then those of many."""
        members = self.blocks[block]
        newest = max(self.images[each].updated or _LONG_AGO for each in members)
        return name_of(block) not in self.before.blocks, newest, len(members)

    def _key(self, block: Tile, states: Mapping[int, str] = MappingProxyType({})) -> str | None:
        """The key that the block must have; None where a state is not known yet.

        Args:
            block: which.
            states: of COGs, that are known better than those of the partition.
        """
        members = []
        for each in self.blocks[block]:
            state = states.get(each) or self.state.state_of(self.images[each])
            if state is None:
                return None
            members.append((self.stated[each], state))
        return block_key(self.recipe, block, members)

    def _take_up(self) -> None:
        """Blocks that were done when an earlier run was killed."""
        for stored in list(self.store.keys(f"{self.at}{UNJOINED}")):
            path = self.scratch / f"taken-{len(self.fragments)}-{stored.key.rpartition('/')[2]}"
            if self.store.get_file(stored.key, path) is None:
                continue
            try:
                told = metadata_of(path)
                block = Tile(*told["block"])
                for address, looked in looked_of(told["looked"]).items():
                    known = self.state.looked.get(address)
                    if known is None or known.at < looked.at:
                        self.state.looked[address] = looked
            except (BrokenArchive, KeyError, TypeError):
                continue
            if block in self.blocks and told.get("key") == self._key(block):
                self.fragments[block] = path

    def _look_again(self) -> None:
        """Ask after those whose time has come, so that their blocks are made anew only if they changed."""
        addresses = {
            each.asset: each.render_params
            for each in self.images
            if each.asset in self.state.looked and self.state.looked[each.asset].is_due(self.now())
        }
        jobs = deque(
            Job(
                {"do": "look", "address": address, "render": render},
                host=self.hosts[address],
                tag=address,
            )
            for address, render in addresses.items()
            if address
        )
        for job, answer in self.workers.run(lambda may: next_of(jobs, may)):
            self._learn(job.tag, answer, looked_only=True)

    def _make(self, due: list[Tile]) -> None:
        taken_up = len(self.fragments)
        cutting = Cutting(
            self.images,
            self.blocks,
            self.hosts,
            self.scratch,
            self.workers,
            learn=self._learn,
            is_given_up=self._is_given_up,
            compose=self._compose,
            is_over=lambda: self.budget.is_spent,
        )
        for block, work, answer in cutting.run(due):
            if answer is None or not self._is_finished(block, answer):
                self.tally.left += 1
            for chip in work.chips.values():
                chip.unlink()
            self.on_progress(len(self.blocks) - len(due) + len(self.fragments) - taken_up)
        self.tally.left += cutting.left

    def _is_given_up(self, address: str) -> bool:
        """Whether it is not asked: it failed a short time ago, or its host does so again and again."""
        looked = self.state.looked.get(address)
        if looked is not None and looked.reason:
            return True  # what is due was asked by `_look_again`
        host = self.hosts[address]
        if not host or self.faults[host] < GIVEN_UP:
            return False
        if looked is None:
            told = {"reason": Reason.UNREACHABLE, "detail": f"{host} failed {GIVEN_UP} times in a row"}
            self._learn(address, told)
        return True

    def _learn(self, address: str, answer: Mapping[str, Any], *, looked_only: bool = False) -> Looked | None:
        """What is known now; None where a host is away of which an image is shown."""
        host, moment = self.hosts[address], self.now().isoformat()
        self.tally.add_cost(host, answer)
        self.budget.spend(int(answer.get("bytes", 0)))
        reason = str(answer["reason"])
        self.faults[host] = self.faults[host] + 1 if reason in _OF_HOSTS else 0
        is_elsewhere = reason == Reason.ELSEWHERE
        known = self.state.looked.get(address)
        is_shown = known is not None and known.etag and self.now() - known.looked_at < FORGIVEN
        if is_shown and reason in _OF_HOSTS:
            return None
        looked = Looked(
            etag=str(answer.get("etag", "")) if is_elsewhere or not reason else "",
            reason="" if is_elsewhere else reason,
            detail="" if is_elsewhere else str(answer.get("detail", "")),
            host=host,
            at=moment,
            since=moment,
            is_seen=not (reason or looked_only),
        ).after(known)
        self.state.looked[address] = looked
        return looked

    def _compose(self, block: Tile, work: InWork) -> Job:
        looked = {
            image.asset: asdict(self.state.looked[image.asset])
            for image in (self.images[each] for each in work.members)
            if image.asset in self.state.looked
        }
        failed = [each for each in work.members if (self.state.state_of(self.images[each]) or "!")[0] == "!"]
        order = {
            "do": "compose",
            "block": [block.x, block.y],
            "chips": [str(work.chips[each]) for each in work.members if each in work.chips],
            "hints": [
                shapely.to_wkb(self.images[each].footprint, hex=True) for each in failed if self.recipe.hints
            ],
            "target": str(self.scratch / f"{name_of(block)}.pmtiles"),
            "told": {
                "block": [block.x, block.y],
                "key": self._key(block, work.states),
                "images": [self.images[each].id for each in work.members],
                "looked": looked,
            },
        }
        return Job(order, tag=block)

    def _is_finished(self, block: Tile, answer: Mapping[str, Any]) -> bool:
        path = self.scratch / f"{name_of(block)}.pmtiles"
        if answer.get("reason"):
            path.unlink(missing_ok=True)
            return False
        self.store.put_file(f"{self.at}{UNJOINED}{name_of(block)}.pmtiles", path, _ARCHIVE)
        self.fragments[block] = path
        self.tally.made += 1
        return True

    def _save(self) -> None:
        """Pack what is there now, and let the state name it."""
        state = self.state
        there = {each.id for each in self.images}
        # pixels of what is no longer in the catalogue are not kept, whatever the budget
        kept = [
            block
            for block in self.blocks
            if block not in self.fragments
            and (known := self.before.blocks.get(name_of(block)))
            and there.issuperset(known[1:])
        ]
        keys = {name_of(block): self.before.blocks[name_of(block)] for block in kept}
        for block, path in self.fragments.items():
            told = metadata_of(path)
            keys[name_of(block)] = [told["key"], *told["images"]]
        state.recipe = self.recipe.digest
        addresses = {each.asset for each in self.images}
        state.looked = {address: each for address, each in state.looked.items() if address in addresses}
        if keys != self.before.blocks:
            self._pack(kept)
        state.blocks = keys
        if state.to_json() != self.before.to_json():
            self.store.put_bytes(f"{self.at}state.json", state.to_json(), _JSON)
            named = {f"{self.at}{each}" for each in ("state.json", state.tiles, state.lossless)}
            self.store.delete([each.key for each in self.store.keys(self.at) if each.key not in named])

    def _pack(self, kept: list[Tile]) -> None:
        old: dict[str, Path] = {}
        if kept:
            found = (
                self.partition.fetch(each, self.scratch) for each in (self.before.tiles, self.before.lossless)
            )
            old = {name: path for name, path in zip((TILES, LOSSLESS), found, strict=True) if path}
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
        tally = self.tally
        tally.images = len(self.images)
        for image in self.images:
            looked = self.state.looked.get(image.asset or "")
            if looked and looked.etag and looked.is_seen:
                tally.read += 1
            elif image.asset is None:
                tally.skipped.append(
                    Skipped(id=image.id, reason=Reason.NO_ASSET, detail="", host="", since="")
                )
            elif looked:
                reason = looked.reason or Reason.ELSEWHERE
                tally.skipped.append(
                    Skipped(
                        id=image.id, reason=reason, detail=looked.detail, host=looked.host, since=looked.since
                    )
                )


def _members(images: Sequence[Image], partition: Tile) -> dict[Tile, list[int]]:
    """Which images touch each block of a partition, those on top first."""
    which, places = blocks_of(np.array([each.footprint for each in images], dtype=object))
    inside = (places >> (BLOCK_ZOOM - PARTITION_ZOOM) == (partition.x, partition.y)).all(axis=1)
    found: dict[Tile, list[int]] = {}
    for image, (x, y) in zip(which[inside].tolist(), places[inside].tolist(), strict=True):
        found.setdefault(Tile(x, y), []).append(image)
    return found


def _host(address: str, rules: Rules) -> str:
    try:
        return target_of(address, rules).authority
    except Unreadable:
        return ""
