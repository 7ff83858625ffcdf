"""Wires the packages into one `Definitions`; the only place that does."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal, TextIO

import dagster as dg

from oam_mosaic_assets.assets.imagery_blocks import imagery_blocks
from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.automation.alerting import alerts_sensor
from oam_mosaic_assets.automation.chain import audits_of, chain_of
from oam_mosaic_assets.automation.executors import executor_of
from oam_mosaic_assets.automation.following import catalogue_sensor
from oam_mosaic_assets.automation.jobs import (
    global_mosaic,
    imagery_partitions,
    mosaic_freshness,
    publish_held_build,
    rollback,
)
from oam_mosaic_assets.automation.old_runs import old_runs
from oam_mosaic_assets.automation.repeating import repeat_failed_build
from oam_mosaic_assets.automation.schedules import daily_mosaic, daily_tidying, hourly_freshness
from oam_mosaic_assets.checks.mosaic_freshness import mosaic_is_fresh
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.history import Retention
from oam_mosaic_assets.core.product import (
    CHANGES,
    DENSITY,
    DETAILS,
    EXACT,
    IMAGERY,
    MOSAIC,
    STATISTICS,
    WHOLE,
)
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.allocator import collect_seldom, give_back_freed_memory
from oam_mosaic_assets.gateways.control_groups import processors
from oam_mosaic_assets.gateways.from_settings import (
    catalogue_of,
    channels_of,
    imagery_of,
    store_of,
    viewer_of,
)
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.io_managers.object_store import ObjectStoreIOManager
from oam_mosaic_assets.resources.auditor import (
    Auditor,
    of_changes,
    of_coverage,
    of_density,
    of_footprints,
    of_imagery,
    of_statistics,
)
from oam_mosaic_assets.resources.console import console_logger
from oam_mosaic_assets.resources.progress import LoggedProgress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_at_the_end
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource
from oam_mosaic_assets.resources.watch import Watch
from oam_mosaic_assets.settings import TEST_BOX, Settings


def build_definitions(
    settings: Settings, *, log_to: TextIO | None = None, **overrides: Any
) -> dg.Definitions:
    """Everything that Dagster shows and runs.

    Args:
        settings: what the environment says.
        log_to: where the lines of a run's log go, without its failures, which the caller reports itself. None
            for standard error, failures included.
        overrides: resources that replace the real ones, by name.
    """
    give_back_freed_memory()
    given = overrides.pop("store", None)
    store = given or store_of(settings)
    keys = settings.keys
    plan = MosaicPlan(
        tiling=TilingPlan(zoom_min=settings.zoom_min, zoom_max=settings.zoom_max),
        details=details_plan(settings.zoom_max),
        exact=_coverage_plan(settings, "exact"),
        whole=_coverage_plan(settings, "whole"),
        processes=settings.build_processes,
        parts=settings.build_parts,
        collection=settings.collection,
        box=TEST_BOX if settings.test_mode else None,
        max_set_aside_share=settings.max_set_aside_share,
        max_shrink_share=settings.max_shrink_share,
        fresh_warn_hours=settings.fresh_warn_hours,
        fresh_fail_hours=settings.fresh_fail_hours,
        remarks=tuple(settings.remarks()),
    )
    retention = Retention(builds=settings.retain_builds, days=settings.retain_days)
    releases = overrides.get("releases") or Releases(store, keys, retention=retention)
    catalogue = overrides.get("catalogue") or catalogue_of(settings)
    # the code server goes on with a tick that outlasts its minute, beside all that follow
    watched = overrides.get("catalogue") or catalogue_of(settings, patient=False)
    watching = overrides.get("releases") or Releases(given or store_of(settings, patient=False), keys)
    imagery = overrides.get("imagery") or imagery_of(settings, store)
    tippecanoe = overrides.get("tippecanoe") or TippecanoeResource(
        program=str(settings.tippecanoe) if settings.tippecanoe else None,
        processes=settings.build_processes,
    )
    freshness = dg.FreshnessPolicy.time_window(  # in whole seconds: the UI cannot show fractions
        warn_window=timedelta(seconds=math.floor(settings.fresh_warn_hours * 3600)),
        fail_window=timedelta(seconds=math.ceil(settings.fresh_fail_hours * 3600)),
    )
    plans = {MOSAIC.name: plan.tiling, DETAILS.name: plan.details}
    pictures = {EXACT.name: plan.exact, WHOLE.name: plan.whole}
    channels = channels_of(settings)
    *upstream, published = chain_of(keys.products, in_parts=settings.build_parts > 1)
    partitioned = [imagery_blocks] if IMAGERY in keys.products else []
    return dg.Definitions(
        assets=[
            *upstream,
            *partitioned,
            published.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=freshness)),
        ],
        asset_checks=[*audits_of(keys.products), mosaic_is_fresh],
        jobs=[
            global_mosaic,
            publish_held_build,
            rollback,
            mosaic_freshness,
            old_runs,
            *([imagery_partitions] if partitioned else []),
        ],
        schedules=[daily_mosaic(settings.mosaic_cron), hourly_freshness, daily_tidying],
        sensors=[
            repeat_failed_build,
            catalogue_sensor(is_on=settings.follow_catalogue),
            *([alerts_sensor(channels, ui=settings.alert_ui_url or "")] if channels else []),
        ],
        executor=executor_of(settings.build_executor, settings.build_processes or processors()),
        loggers={"console": console_logger(settings.log_level, log_to)},
        resources={
            "io_manager": _io_manager(ObjectStoreIOManager(store, keys)),
            "catalogue": catalogue,
            "mosaic_plan": plan,
            "progress": LoggedProgress(),
            "releases": releases,
            "imagery": imagery,
            "viewer": viewer_of(settings, store),
            "auditor": Auditor(
                releases,
                {
                    **{name: of_footprints(each) for name, each in plans.items()},
                    **{name: of_coverage(each) for name, each in pictures.items()},
                    DENSITY.name: of_density,
                    STATISTICS.name: of_statistics(plan.collection),
                    CHANGES.name: of_changes(releases),
                    IMAGERY.name: of_imagery(imagery),
                },
                max_set_aside_share=plan.max_set_aside_share,
                max_shrink_share=plan.max_shrink_share,
            ),
            "scratch": Scratch(root=str(settings.mosaic_scratch.absolute())),
            "tippecanoe": tippecanoe,
            "watch": Watch(
                watched,
                watching,
                tippecanoe,
                plans=plans,
                pictures=pictures,
                imagery=imagery.plan,
                box=plan.box,
            ),
            **overrides,
        },
    )


def _coverage_plan(settings: Settings, way: Literal["exact", "whole"]) -> CoveragePlan:
    return CoveragePlan(
        way=way,
        zoom_min=settings.zoom_min,
        zoom_max=settings.zoom_max,
        pixels=settings.coverage_tile_pixels,
        colour=settings.coverage_colour,
        opacity=settings.coverage_opacity,
    )


def _io_manager(manager: ObjectStoreIOManager) -> dg.IOManagerDefinition:
    """The manager as a Dagster resource; when a stopped or refused run ends, discards what it staged."""

    @dg.io_manager(  # type: ignore[arg-type]  # it may be a generator, like any resource
        required_resource_keys={"scratch", "releases"}, description=manager.__doc__
    )
    def object_store_io_manager(context: dg.InitResourceContext) -> Iterator[ObjectStoreIOManager]:
        collect_seldom()
        yield manager
        discard_at_the_end(context)

    return object_store_io_manager


@dg.definitions
def defs() -> dg.Definitions:
    """What `workspace.yaml` and `dg` load: everything, configured by the environment."""
    return build_definitions(Settings.read())
