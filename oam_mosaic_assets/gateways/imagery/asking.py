"""What is known about the images' COGs in a build of a partition, and which of them are requested."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import shapely

from oam_mosaic_assets.core.imagery.outcome import BEYOND_ITS_END, COMPUTED, Reason, Unreadable
from oam_mosaic_assets.core.imagery.recipe import Image
from oam_mosaic_assets.core.imagery.state import Looked, Skipped, Tally
from oam_mosaic_assets.gateways.imagery.addresses import Rules, target_of
from oam_mosaic_assets.gateways.imagery.cutting import next_of
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets.gateways.imagery.workers import Job, Workers

GIVEN_UP: Final = 5
"""Consecutive failures of a host after which a build of a partition leaves it alone; in the run's other
partitions one more is enough."""

DELIVERED: Final = 2**20
"""Bytes of an image that took too long from which on its host is not to blame: that is 11 KiB per second."""

_OF_HOSTS: Final = frozenset({Reason.UNREACHABLE, Reason.UNKNOWN_HOST, Reason.SLOW, Reason.SERVER_FAULT})
_MIDWAY: Final = frozenset({Reason.TRUNCATED, Reason.CHANGED})
"""What may end the reading of an image that is sound: its host hung up, or it is just being replaced."""


class Asking:
    """The COGs of some images, by `Image.reading`.

    Attributes:
        hosts: the host of each; empty where its address is not allowed.
        looked: what was found of each, in this build and earlier ones.
    """

    def __init__(
        self,
        images: Iterable[Image],
        looked: dict[str, Looked],
        rules: Rules,
        faults: Counter[str],
        tally: Tally,
        budget: Budget,
        now: Callable[[], datetime],
    ) -> None:
        """Nothing is requested yet.

        Args:
            images: the images whose addresses these are.
            looked: what was found in earlier builds; new results are added to it.
            rules: which addresses may be requested.
            faults: how many times in a row each host has failed, also in other partitions; new failures are
                added to it.
            tally: what requests cost is added to it.
            budget: received bytes are deducted from it.
            now: the clock.
        """
        self.looked = looked
        self._images = {each.reading: each for each in images if each.reading}
        self.hosts = {
            reading: _host(each.tiles or each.asset or "", rules) for reading, each in self._images.items()
        }
        self._tally, self._budget, self._now = tally, budget, now
        self._faults = faults
        for host, count in faults.items():  # one that was given up elsewhere gets one more chance
            faults[host] = min(count, GIVEN_UP - 1)
        self._away = set[str]()

    def look_again(self, workers: Workers) -> None:
        """Check again those that are due, so that their blocks are rebuilt only if they changed.

        Those that failed when last asked come last, those that were not asked for longest first, and may
        spend a tenth of the budget: however many they are and however slow, the rest is for new images.
        """
        due = [
            reading
            for reading, image in self._images.items()
            if (looked := self.looked.get(reading)) and looked.is_due(self._now())
            if looked.reason or not image.tiles  # tiles do not say whether the image changed
        ]
        failed = [each for each in due if self.looked[each].failed_at]
        failed.sort(key=lambda each: self.looked[each].failed_at)
        others = [each for each in due if not self.looked[each].failed_at]
        self._look(workers, others, lambda: self._budget.is_spent)
        self._look(workers, failed, self._budget.tenth())

    def _look(self, workers: Workers, readings: Iterable[str], is_over: Callable[[], bool]) -> None:
        jobs = deque(self._job(each) for each in readings)

        def next_job(may_begin: Callable[[Job], bool]) -> Job | None:
            while not is_over() and (job := next_of(jobs, may_begin)) is not None:
                if self._faults[job.host] < GIVEN_UP:
                    return job
                self.learn(job.tag, _left_alone(job.host), looked_only=True)
            return None

        for job, answer in workers.run(next_job):
            self.learn(job.tag, answer, looked_only=True)

    def _job(self, reading: str) -> Job:
        """A look at a COG."""
        image, looked = self._images[reading], self.looked[reading]
        order = {
            "do": "look",
            "address": image.asset,
            "render": image.render_params,
            "tiles": image.tiles,
            "footprint": shapely.to_wkb(image.footprint, hex=True),
            # if it is still the same, what is known of it still holds
            "etag": looked.etag if not looked.reason or looked.lies_in_file else "",
        }
        return Job(order, host=self.hosts[reading], tag=reading)

    def is_given_up(self, reading: str) -> bool:
        """Whether a COG is not requested, because it failed recently or its host keeps failing."""
        looked = self.looked.get(reading)
        if looked is not None and looked.reason:
            return True  # `look_again` tries it again
        host = self.hosts[reading]
        if not host or self._faults[host] < GIVEN_UP:
            return False
        self.learn(reading, _left_alone(host))
        return True

    def is_awaited(self, reading: str) -> bool:
        """Whether the blocks of an image are to wait until its host is back, or its worker no longer crashes.

        They do as long as it is forgiven.
        """
        known = self.looked.get(reading)
        if known is None or known.reason:
            return False
        if reading not in self._away:
            self.is_given_up(reading)  # its host may be, and from then on its days are counted
        return reading in self._away

    def learn(self, reading: str, answer: Mapping[str, Any], *, looked_only: bool = False) -> Looked | None:
        """Record an answer; returns what is known now, None if a shown image stays as it is for a while.

        It does if its host is down or hangs up, if it is being replaced, or if its worker crashed.
        """
        host, moment = self.hosts[reading], self._now().isoformat()
        self._tally.add_cost(host, answer)
        self._budget.spend(int(answer.get("bytes", 0)))
        reason = str(answer["reason"])
        if answer.get("requests"):  # else nobody was asked, and nothing is known of the host
            self._faults[host] = self._faults[host] + 1 if self._blames_host(reading, answer) else 0
        is_elsewhere = reason == Reason.ELSEWHERE
        detail = str(answer.get("detail", ""))
        may_pass = reason in _OF_HOSTS | _MIDWAY and detail != BEYOND_ITS_END
        known = self.looked.get(reading)
        if reason == Reason.CRASHED and known is not None and known.is_seen is not None:
            may_pass = True
        if may_pass and known is not None and not known.reason:
            failing = known.failing or ("" if looked_only else moment)
            self.looked[reading] = known = replace(known, tried=moment, failing=failing)
            if known.is_forgiven(self._now(), looked_only=looked_only):
                self._away.add(reading)
                return None
        etag = str(answer.get("etag", ""))
        is_well = is_elsewhere or not reason
        if is_well and etag and known is not None and known.lies_in_file and known.etag == etag:
            # the same file opens, or shows another block, and would fail again where it failed
            self.looked[reading] = looked = replace(known, at=moment)
            return looked
        if known is not None and not is_well and not etag:
            etag = known.etag  # no memory was left to say it; if the file changed since, the next look tells
        looked = Looked(
            etag=etag,
            reason="" if is_elsewhere else reason,
            detail="" if is_elsewhere else detail,
            host=host,
            at=moment,
            since=moment,
            is_seen=None if looked_only else not reason,
        ).after(known)
        self.looked[reading] = looked
        return looked

    def _blames_host(self, reading: str, answer: Mapping[str, Any]) -> bool:
        """Whether an answer says that the host is down, and not that something is wrong with one image."""
        reason = str(answer["reason"])
        if answer.get("detail") == COMPUTED:
            return False
        if reason == Reason.SLOW and int(answer.get("bytes", 0)) >= DELIVERED:
            return False
        # TiTiler also answers with an error if it cannot read one image
        return reason in _OF_HOSTS and not (reason == Reason.SERVER_FAULT and self._images[reading].tiles)

    def became_of(self, image: Image, *, is_drawn: bool, is_finished: bool) -> Skipped | bool:
        """True if an image is shown, False if it waits to be read, else why it is not shown.

        Args:
            image: the image.
            is_drawn: whether a block may show it, up to date or as it was before.
            is_finished: whether all its blocks are up to date.
        """
        if image.reading is None:
            return Skipped(id=image.id, reason=Reason.NO_ASSET, detail="", host="", since="")
        looked = self.looked.get(image.reading)
        if looked is None:
            return False
        is_blank = is_finished and looked.is_seen is False
        if not looked.reason and (is_drawn or not is_blank):
            return is_drawn
        reason = looked.reason or Reason.ELSEWHERE
        return Skipped(id=image.id, reason=reason, detail=looked.detail, host=looked.host, since=looked.since)


def _left_alone(host: str) -> dict[str, str]:
    return {"reason": Reason.UNREACHABLE, "detail": f"{host} failed {GIVEN_UP} times in a row"}


def _host(address: str, rules: Rules) -> str:
    try:
        return target_of(address, rules).authority
    except Unreadable:
        return ""
