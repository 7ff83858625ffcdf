"""The same archive in several steps, each on a machine of its own if need be: cut, make each part, merge.

Artifacts pass between the steps through the store, as they do between assets. Where tiles are taken over, or
there is little to draw, nothing is cut and the last step makes the archive by itself.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import dagster as dg
import numpy as np

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.published_mosaic import refuse_mixture
from oam_mosaic_assets.assets.tiling import make_tiles, shown_by
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.fragment import Fragment
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.mosaic_tiles import Lines, cut_into_parts, make_low_zooms
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import KEPT
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource

POD: Final[dict[str, Any]] = {
    "dagster-k8s/config": {
        "container_config": {
            "resources": {
                "requests": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "2Gi"},
                "limits": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "10Gi"},
            }
        }
    }
}
"""What a step requests from a cluster: tippecanoe, two cutting processes and this one use some 500 MiB."""


PLAN: Final = "plan"
TILES: Final = "tiles"
SECONDS: Final = "seconds"
"""Facts of a part: the digest of its plan; begins and ends of the stretches of its tiles, which the low zooms
do not have; how long the steps that made it have taken so far."""


def in_parts(
    whole: dg.AssetsDefinition, geojson: str, product: Product, plan_of: Callable[[MosaicPlan], TilingPlan]
) -> dg.AssetsDefinition:
    """An asset as a graph of steps.

    Args:
        whole: the asset as one step; its description, owners and other attributes are kept.
        geojson: the asset that writes its lines.
        product: the product that it stages.
        plan_of: how that is tiled.
    """

    @dg.op(name=f"{product.word}_cut", out=dg.DynamicOut(), tags=POD)
    def cut(
        context: dg.OpExecutionContext,
        footprints: Artifact,
        lines: Artifact,
        mosaic_plan: dg.ResourceParam[MosaicPlan],
        tippecanoe: TippecanoeResource,
        scratch: Scratch,
    ) -> Iterator[dg.DynamicOutput[Artifact]]:
        """Lines for each part of the map, and footprints for its low zooms; nothing if little is drawn."""
        clock, plan = time.perf_counter(), plan_of(mosaic_plan)
        with failing_clearly():
            refuse_mixture(lines, footprints)
            recipe, folder = plan.digest(tippecanoe.version()), scratch.folder(f"{product.asset}.cut")
            parts: list[Lines] = []
            if not lines.facts["taken_over"]["from"]:
                parts = cut_into_parts(plan, shown_by(footprints, lines), folder, mosaic_plan.parts)
            if len(parts) <= 1:
                context.log.info("%s: not split into steps, as there is too little to draw", lines.build)
                return
            table = folder / f"{lines.path.stem}.low-zooms.parquet"
            shutil.copyfile(footprints.path, table)
        seconds = time.perf_counter() - clock
        for number, each in enumerate(parts):
            tiles = [each.tiles.begin.tolist(), each.tiles.end.tolist()]
            facts = {PLAN: recipe, TILES: tiles, SECONDS: 0.0}
            part = Artifact(build=lines.build, files=(each.path,), facts=facts)
            yield dg.DynamicOutput(part, mapping_key=f"{number}")
        low_zooms = Artifact(build=lines.build, files=(table,), facts={PLAN: recipe, SECONDS: seconds})
        yield dg.DynamicOutput(low_zooms, mapping_key="low_zooms")

    @dg.op(name=f"{product.word}_part", tags=POD | KEPT)
    def make(
        context: dg.OpExecutionContext,
        part: Artifact,
        mosaic_plan: dg.ResourceParam[MosaicPlan],
        progress: dg.ResourceParam[Progress],
        tippecanoe: TippecanoeResource,
        scratch: Scratch,
    ) -> dg.Output[Artifact]:
        """The tiles of a part of the map, or those of the low zooms."""
        clock, plan = time.perf_counter(), plan_of(mosaic_plan)
        with failing_clearly():
            _refuse_another_plan(part, plan.digest(tippecanoe.version()))
            folder = scratch.folder(f"{product.asset}.{context.get_mapping_key()}")
            if TILES in part.facts:
                tiles = Stretches(*np.array(part.facts[TILES], np.int64))
                lines = Lines(part.path, tiles)
                made = tippecanoe.make_part(plan, lines, folder, progress=progress, log=context.log)
            else:
                made = [make_low_zooms(plan, part.path, folder / f"{part.path.stem}.tiles")]
            files = tuple(path for each in made for path in each.saved())
        seconds = time.perf_counter() - clock
        facts = {**part.facts, SECONDS: part.facts[SECONDS] + seconds}
        tiles_made = sum(int(each.entries.run_length.sum()) for each in made)
        return dg.Output(
            Artifact(build=part.build, files=files, facts=facts),
            metadata={"tiles made": tiles_made, "seconds": round(seconds, 2)},
        )

    @dg.op(name=f"{product.word}_merge", tags=POD | KEPT)
    def merge(
        context: dg.OpExecutionContext,
        footprints: Artifact,
        lines: Artifact,
        made: list[Artifact],
        releases: dg.ResourceParam[Releases],
        mosaic_plan: dg.ResourceParam[MosaicPlan],
        progress: dg.ResourceParam[Progress],
        tippecanoe: TippecanoeResource,
        scratch: Scratch,
    ) -> dg.MaterializeResult[Artifact]:
        """The archive, merged from all parts, or made from scratch if nothing was cut."""
        plan = plan_of(mosaic_plan)
        with failing_clearly():
            for each in made:
                _refuse_another_plan(each, plan.digest(tippecanoe.version()))
            fragments = [Fragment.left_at(each) for part in made for each in part.files[::2]]
        return make_tiles(
            context,
            footprints,
            lines,
            product,
            plan,
            releases=releases,
            tippecanoe=tippecanoe,
            scratch=scratch,
            progress=progress,
            fragments=fragments,
            seconds_before=sum(each.facts[SECONDS] for each in made),
        )

    def steps(footprints: Any, lines: Any) -> Any:
        # Dagster puts the asset's name before each: in the room the UI has left, keep what tells them apart
        parts = cut.alias("cut")(footprints, lines).map(make.alias("part"))
        return merge.alias("merge")(footprints, lines, parts.collect())

    (spec,) = whole.specs
    return dg.graph_asset(
        name=product.asset,
        ins={"footprints": dg.AssetIn("stac_footprints"), "lines": dg.AssetIn(geojson)},
        description=spec.description,
        group_name=spec.group_name,
        owners=spec.owners,
        kinds=spec.kinds,
        code_version=spec.code_version,
        hooks=whole.hook_defs,
    )(steps)


def _refuse_another_plan(part: Artifact, recipe: str) -> None:
    """Refuse such a part: a run may be re-executed from failure by other code or another tippecanoe."""
    if part.facts[PLAN] != recipe:
        raise TilingFailed(
            f"{part.path.name} was made by a different plan or for a different tippecanoe.",
            hint="Build again from the start: job `global_mosaic`, or `oam-mosaic build`.",
        )
