"""The audit of a staged product: made once, kept beside it, used by both checks and publisher."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.catalog_changes import unnamed_digest
from oam_mosaic_assets.core.catalog_changes_audit import examine_changes
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.coverage_audit import examine_coverage
from oam_mosaic_assets.core.density_audit import examine_density
from oam_mosaic_assets.core.examination import examine
from oam_mosaic_assets.core.imagery.audit import examine_imagery
from oam_mosaic_assets.core.product import MOSAIC, Product
from oam_mosaic_assets.core.reexamination import reexamine
from oam_mosaic_assets.core.release import as_json, audit_name
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.statistics import catalog_of, excluded_of
from oam_mosaic_assets.core.statistics_audit import examine_statistics
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.calls import calling
from oam_mosaic_assets.gateways.control_groups import processors
from oam_mosaic_assets.gateways.imagery_mosaic import ImageryMosaic
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.releases import Releases

WORTH_A_PROCESS: Final = 4 * 2**20
"""Bytes; a larger archive is audited by two processes."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found out about one product.

    Attributes:
        sha256: digest of the file that was judged.
        seconds: how long it took.
        verdicts: in the order of the product's checks; those that a broken file leaves open are missing.
    """

    sha256: str
    seconds: float
    verdicts: Sequence[Verdict]

    @property
    def failures(self) -> list[Verdict]:
        """What is wrong with the product; nobody can overrule it."""
        return [each for each in self.verdicts if not each.passed and not each.is_guard]

    @property
    def guards(self) -> list[Verdict]:
        """What a person must confirm."""
        return [each for each in self.verdicts if not each.passed and each.is_guard]

    def number(self, name: str, default: Any = None) -> Any:
        """A number that some verdict is based on."""
        return next((each.numbers[name] for each in self.verdicts if name in each.numbers), default)


class Examiner(Protocol):
    """Judges a staged product by itself: whether it is whole, as asked, and agrees with the footprints."""

    def __call__(
        self,
        staged: Artifact,
        footprints: Artifact,
        *,
        before: Before | None,
        on_progress: Callable[[float], None],
    ) -> list[Verdict]:
        """The verdicts, in the order of the product's checks."""
        ...


def of_footprints(plan: TilingPlan) -> Examiner:
    """Judges an archive that was tiled from the footprints by this plan."""

    def judge(archive: Path, table: Path, *, before: Before | None, **stated: Any) -> list[Verdict]:
        function = examine if before is None else partial(reexamine, before=before)
        judged = partial(function, archive, table, plan, **stated)
        if processors() == 1 or archive.stat().st_size <= WORTH_A_PROCESS:
            return judged()
        module = examine.__module__ if before is None else reexamine.__module__
        with calling("A process that audits", archive.parent, ahead=module) as aside:
            return judged(aside=aside)

    return _of_archive(judge)


def of_coverage(plan: CoveragePlan) -> Examiner:
    """Judges an archive of coverage that was drawn from the footprints by this plan."""
    return _of_archive(partial(examine_coverage, plan=plan))


def _of_archive(judge: Callable[..., list[Verdict]]) -> Examiner:
    """Judges an archive by its footprints, the snapshot's digest and extent, and what it took over."""

    def examined(
        staged: Artifact,
        footprints: Artifact,
        *,
        before: Before | None,
        on_progress: Callable[[float], None],
    ) -> list[Verdict]:
        snapshot = staged.facts["snapshot"]
        return judge(
            staged.path,
            footprints.path,
            snapshot=snapshot["digest"],
            extent=tuple(snapshot["bounds"]),
            before=before,
            on_progress=on_progress,
        )

    return examined


def of_imagery(imagery: ImageryMosaic) -> Examiner:
    """Judges an archive of imagery, given the report of what was not read."""

    def examined(
        staged: Artifact, footprints: Artifact, *, on_progress: Callable[[float], None], **_unused: object
    ) -> list[Verdict]:
        snapshot = staged.facts["snapshot"]
        return examine_imagery(
            staged.path,
            footprints.path,
            snapshot=snapshot["digest"],
            extent=tuple(snapshot["bounds"]),
            tally=staged.facts["imagery"],
            unread=imagery.unread(staged.build),
            on_progress=on_progress,
        )

    return examined


def of_density(
    staged: Artifact, footprints: Artifact, *, before: Before | None, on_progress: Callable[[float], None]
) -> list[Verdict]:
    """Judges the archive of the density grid."""
    facts = footprints.facts
    return examine_density(
        staged.path,
        footprints.path,
        snapshot=facts["snapshot"]["digest"],
        taken_at=facts["snapshot"]["taken_at"],
        excluded=excluded_of(facts),
        catalogued=facts["images"] + sum(facts["set_aside"].values()) + facts["outside_test_box"],
        before=before,
        on_progress=on_progress,
    )


def of_statistics(collection: str) -> Examiner:
    """Judges the statistics of a catalogue, of which this collection is read."""

    def examined(staged: Artifact, footprints: Artifact, **_unused: object) -> list[Verdict]:
        facts, (_, sheets) = footprints.facts, staged.files
        return examine_statistics(
            staged.path,
            footprints.path,
            sheets,
            taken_at=facts["snapshot"]["taken_at"],
            stated={
                "build": footprints.build,
                "watermark": facts["snapshot"]["digest"],
                "collection": collection,
                "catalog": catalog_of(facts),
            },
            excluded=excluded_of(facts),
        )

    return examined


def of_changes(releases: Releases) -> Examiner:
    """Judges the list of changes, given what had been taken down when it was made.

    What was taken down since is no fault of the list: publication refuses it, and the next build is right.
    """

    def examined(staged: Artifact, footprints: Artifact, **_unused: object) -> list[Verdict]:
        _, images_before = staged.files
        hidden = frozenset(staged.facts.get("hidden", ()))  # absent if staged before an upgrade
        snapshot = footprints.facts["snapshot"]
        return examine_changes(
            staged.path,
            images_before,
            footprints.path,
            taken_down={each for each in releases.takedowns.ids() if unnamed_digest(each) in hidden},
            stated={
                "build": footprints.build,
                "watermark": snapshot["digest"],
                "snapshot_taken_at": snapshot["taken_at"],
                "since": staged.facts["since"],
            },
        )

    return examined


class Auditor:
    """Audits staged products against their footprints, and the build against what is public."""

    def __init__(
        self,
        releases: Releases,
        examiners: Mapping[str, Examiner],
        *,
        max_set_aside_share: float,
        max_shrink_share: float,
    ) -> None:
        """Set up the auditor.

        Args:
            releases: what is public.
            examiners: what judges each product, by product name.
            max_set_aside_share: the largest share of the catalogue that may be set aside, 0 to 1.
            max_shrink_share: the largest share of the last published build's images that may be lost, 0 to 1.
        """
        self.releases = releases
        self.examiners = examiners
        self.max_set_aside_share = max_set_aside_share
        self.max_shrink_share = max_shrink_share

    def of(
        self,
        product: Product,
        staged: Artifact,
        footprints: Artifact,
        *,
        before: Before | None = None,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> Audit:
        """The audit of exactly this file: the one on record, else a new one.

        So the publisher can be run by itself: what was never audited is audited then.

        Args:
            product: which product it is.
            staged: the staged product.
            footprints: what it was made from.
            before: the public build that it took tiles over from; without it, all of it is read.
            on_progress: called now and then with the share read, 0 to 1.
        """
        sha256 = staged.facts["product"]["sha256"]
        key = self.releases.keys.staging(staged.build, audit_name(product.name))
        found = self.releases.store.get_bytes(key)
        if found is not None:
            stated = json.loads(found[0])
            if stated["sha256"] == sha256:
                return Audit(sha256, stated["seconds"], [Verdict(**each) for each in stated["verdicts"]])
        clock = time.perf_counter()
        verdicts = self.examiners[product.name](staged, footprints, before=before, on_progress=on_progress)
        if product == MOSAIC:
            verdicts += self._guards(staged)
        made = Audit(sha256, round(time.perf_counter() - clock, 2), verdicts)
        self.releases.store.put_bytes(key, as_json(asdict(made)), Headers("application/json"))
        return made

    def _guards(self, staged: Artifact) -> list[Verdict]:
        """Verdicts on the build's catalogue, whatever was made from it."""
        facts, before = staged.facts, self.releases.current()
        last = before[0] if before else None
        is_other = last is not None and not last.is_comparable(facts["source"])
        catalogued = facts["images"] + sum(facts["set_aside"].values())
        return [
            audit.judge_set_aside(
                # what cannot be drawn is in no box, so it is compared with everything that was read
                catalogued=catalogued + facts["outside_test_box"],
                set_aside=facts["set_aside"],
                most=self.max_set_aside_share,
            ),
            audit.judge_shrinkage(
                catalogued=catalogued,
                before=last.images + last.set_aside if last else None,
                another=last.source if last and is_other else None,
                most=self.max_shrink_share,
            ),
        ]
