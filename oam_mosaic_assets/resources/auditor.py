"""The audit of a staged build: made once, kept beside the archive, asked for by checks and publisher."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.examination import examine
from oam_mosaic_assets.core.reexamination import reexamine
from oam_mosaic_assets.core.release import AUDIT, as_json
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.releases import Releases


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found of one archive.

    Attributes:
        sha256: of the archive that was judged.
        seconds: that it took.
        verdicts: in the order of `core.audit.CHECKS`; those that a broken archive leaves open are missing.
    """

    sha256: str
    seconds: float
    verdicts: Sequence[Verdict]

    @property
    def failures(self) -> list[Verdict]:
        """What is wrong with the archive; nobody can overrule it."""
        return [each for each in self.verdicts if not each.passed and not each.is_guard]

    @property
    def guards(self) -> list[Verdict]:
        """What a person must confirm."""
        return [each for each in self.verdicts if not each.passed and each.is_guard]

    def number(self, name: str, default: Any = None) -> Any:
        """A number that some verdict was judged by."""
        return next((each.numbers[name] for each in self.verdicts if name in each.numbers), default)


class Auditor:
    """Audits staged builds against their footprints and against what is public."""

    def __init__(
        self, releases: Releases, plan: TilingPlan, *, max_set_aside_share: float, max_shrink_share: float
    ) -> None:
        self.releases = releases
        self.plan = plan
        self.max_set_aside_share = max_set_aside_share
        self.max_shrink_share = max_shrink_share

    def of(
        self,
        archive: Artifact,
        footprints: Artifact,
        *,
        before: Before | None = None,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> Audit:
        """The audit of exactly this archive: the one on record, else a new one.

        So a publisher may be started by itself: what was never audited is audited then.

        Args:
            archive: the staged archive.
            footprints: what it was made from.
            before: the public build that it took tiles over from; without it, all of the archive is read.
            on_progress: told now and then which share of the tiles is read, 0 to 1.
        """
        sha256 = archive.facts["archive"]["sha256"]
        key = self.releases.keys.staging(archive.build, AUDIT)
        found = self.releases.store.get_bytes(key)
        if found is not None:
            stated = json.loads(found[0])
            if stated["sha256"] == sha256:
                return Audit(sha256, stated["seconds"], [Verdict(**each) for each in stated["verdicts"]])
        made = self._examine(archive, footprints, before, sha256, on_progress)
        self.releases.store.put_bytes(key, as_json(asdict(made)), Headers("application/json"))
        return made

    def _examine(
        self,
        archive: Artifact,
        footprints: Artifact,
        before: Before | None,
        sha256: str,
        on_progress: Callable[[float], None],
    ) -> Audit:
        clock, facts = time.perf_counter(), archive.facts
        snapshot = facts["snapshot"]
        judge = examine if before is None else partial(reexamine, before=before)
        verdicts = judge(
            archive.path,
            footprints.path,
            self.plan,
            snapshot=snapshot["digest"],
            extent=tuple(snapshot["bounds"]),
            on_progress=on_progress,
        )
        public = self.releases.current()
        last = public[0] if public else None
        # a sample says nothing of how large the real catalogue should be
        is_other = last is not None and (last.source == "sample") != (facts["source"] == "sample")
        catalogued = facts["images"] + sum(facts["set_aside"].values())
        verdicts.append(
            audit.judge_set_aside(
                # what cannot be drawn lies in no box, so it is counted against all that was read
                catalogued=catalogued + facts["outside_test_box"],
                set_aside=facts["set_aside"],
                most=self.max_set_aside_share,
            )
        )
        verdicts.append(
            audit.judge_shrinkage(
                catalogued=catalogued,
                before=last.images + last.set_aside if last else None,
                another=last.source if last and is_other else None,
                most=self.max_shrink_share,
            )
        )
        return Audit(sha256, round(time.perf_counter() - clock, 2), verdicts)
