"""The audited products made public: the objects that everyone's map reads."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import shapely

from oam_mosaic_assets import __version__
from oam_mosaic_assets.assets.global_imagery_pmtiles import keep_partitions_of
from oam_mosaic_assets.assets.stac_footprints import SET_ASIDE, TAKEDOWN_TAG
from oam_mosaic_assets.core.archive import Archive, open_archive
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.catalog_changes import named_in
from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.picture import LEGEND, as_markdown, world_picture
from oam_mosaic_assets.core.product import CHANGES, DENSITY, IMAGERY, MOSAIC, STATISTICS, Product
from oam_mosaic_assets.core.release import MANIFEST, Pointer, counts, how_to_confirm, in_pointer, tilejson
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.errors import AuditFailed, HeldBack, MosaicError
from oam_mosaic_assets.gateways.imagery_mosaic import ImageryMosaic
from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.public_keys import Part
from oam_mosaic_assets.gateways.read_back import Expected
from oam_mosaic_assets.gateways.releases import Candidate, Releases
from oam_mosaic_assets.gateways.viewer import Viewer
from oam_mosaic_assets.io_managers.object_store import CONFIRM_TAG
from oam_mosaic_assets.resources.auditor import Audit, Auditor
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.staging import discard_staged

PUBLISHED = dg.AssetKey("published_mosaic")


def publication_of(products: Sequence[Product]) -> dg.AssetsDefinition:
    """The asset that publishes these products of a build together."""
    counted = ["density_cells"] if {DENSITY, STATISTICS} & {*products} else []

    @dg.asset(
        key=PUBLISHED,
        group_name="coverage",
        kinds={"s3", "pmtiles"},
        owners=["team:openaerialmap"],
        ins={name: dg.AssetIn() for name in (*(each.asset for each in products), *counted)},
        hooks={discard_staged},
        code_version="1",
        pool="publication",  # limited in production, for runs of the daemon: see decision 10
    )
    def published_mosaic(
        context: dg.AssetExecutionContext,
        stac_footprints: Artifact,
        releases: dg.ResourceParam[Releases],
        viewer: dg.ResourceParam[Viewer],
        imagery: dg.ResourceParam[ImageryMosaic],
        auditor: dg.ResourceParam[Auditor],
        progress: dg.ResourceParam[Progress],
        **staged: Artifact,
    ) -> dg.MaterializeResult[None]:
        """The public mosaic: every product, the aliases, the TileJSON, and the pointer `latest.json`.

        Every product is copied within the store, pinned to the audited bytes, and read back as an anonymous
        client would before it is reported as public. All products switch together, or none does.
        """
        clock = time.perf_counter()
        confirmed, is_takedown = context.run.tags.get(CONFIRM_TAG), TAKEDOWN_TAG in context.run.tags
        audits: dict[str, Audit] = {}
        with ThreadPoolExecutor(max_workers=1) as beside, failing_clearly():
            picture = beside.submit(_picture, stac_footprints.path)  # publishing is mostly waiting
            for each in products:
                refuse_mixture(staged[each.asset], stac_footprints)
                audits[each.name] = auditor.of(each, staged[each.asset], stac_footprints)
            _refuse(audits, stac_footprints.build, confirmed)
            made = {each: staged[each.asset] for each in products}
            with open_archive(made[MOSAIC].path) as archive:
                candidate = _candidate(releases, archive, made, stac_footprints, audits, confirmed)
            for name in counted:
                refuse_mixture(staged[name], stac_footprints)
                candidate = _with_density(candidate, staged[name], releases)
            pointer = releases.publish(
                candidate,
                confirmed=confirmed,
                is_takedown=is_takedown,
                say=lambda text: progress.step(context.log, "publishing", None, text),
                warn=context.log.warning,
            )
        if IMAGERY in made:
            _keep_partitions(context, made[IMAGERY], imagery)
        page = _page(context, viewer, pointer.build)
        progress.step(context.log, "publishing", 1.0, pointer.build)
        seconds = {**candidate.manifest["seconds"], "published_mosaic": round(time.perf_counter() - clock, 2)}
        return dg.MaterializeResult(
            metadata=_metadata(releases, candidate, pointer, picture.result(), seconds) | page
        )

    return published_mosaic


def _keep_partitions(context: dg.AssetExecutionContext, staged: Artifact, imagery: ImageryMosaic) -> None:
    try:
        keep_partitions_of(staged, imagery, context.instance)
    except MosaicError as error:  # the next publication does it
        context.log.warning(f"Partitions without images could not be deleted yet. {error}")


def _page(context: dg.AssetExecutionContext, viewer: Viewer, build: str) -> dict[str, Any]:
    """Publish the viewer page and link to it; the mosaic is public even if this fails."""
    if not viewer.is_built:
        context.log.info(
            "no page is published, as the folder SERVE_VIEWER holds no built viewer; "
            "scripts/build-viewer builds it into viewer/dist"
        )
        return {}
    try:
        viewer.publish()
    except (MosaicError, OSError) as error:  # it may be built anew meanwhile
        context.log.warning(f"{build} is public, but its page could not be published. {error}")
        return {}
    return {"viewer": dg.MetadataValue.url(viewer.address(build))}


def refuse_mixture(staged: Artifact, footprints: Artifact) -> None:
    """Check that both belong to one build: assets that are materialised one by one need not.

    Raises:
        AuditFailed: they belong to different builds.
    """
    if staged.build != footprints.build:
        raise AuditFailed(
            f"{staged.path.name} of {staged.build} and the footprints of {footprints.build} "
            "belong to different builds.",
            hint="Materialise the whole chain: job `global_mosaic`, or `oam-mosaic build`.",
        )


def _refuse(audits: Mapping[str, Audit], build: str, confirmed: str | None) -> None:
    failures = [f"{name}: {each.text}" for name, audit in audits.items() for each in audit.failures]
    if failures:
        raise AuditFailed(
            f"{build} failed its audit: {'; '.join(failures)}.",
            hint="The public mosaic stays as it was. Fix the cause of the failed checks and build again.",
        )
    guards = [each.text for audit in audits.values() for each in audit.guards]
    if guards and not confirmed:
        raise HeldBack(
            f"{build} is held back: {'; '.join(guards)}.",
            hint=f"If this is as it should be, {how_to_confirm(build)}.",
        )


def _candidate(
    releases: Releases,
    archive: Archive,
    made: Mapping[Product, Artifact],
    footprints: Artifact,
    audits: Mapping[str, Audit],
    confirmed: str | None,
) -> Candidate:
    facts, build, keys = made[MOSAIC].facts, footprints.build, releases.keys
    products = {
        each.name: _described(each, staged, audits[each.name], keys.release(build, each.name))
        for each, staged in made.items()
    }
    audit, mosaic = audits[MOSAIC.name], products[MOSAIC.name]
    # archives name only images with footprints; the list of changes also names removed ones
    changed = named_in(made[CHANGES].path) if CHANGES in made else frozenset()
    pointer = Pointer(
        build=build,
        digest=facts["snapshot"]["digest"],
        snapshot_taken_at=facts["snapshot"]["taken_at"],
        checked_at=facts["snapshot"]["taken_at"],
        published_at="",
        source=facts["source"],
        images=facts["images"],
        set_aside=sum(facts["set_aside"].values()),
        basis=facts["basis"],
        archive=mosaic["key"],
        manifest=keys.release(build, MANIFEST),
        size=archive.size,
        sha256=mosaic["sha256"],
        products=in_pointer(products),
    )
    manifest = {
        "build": build,
        "snapshot": facts["snapshot"],
        "watermark": pointer.digest,  # no source has a reliable modification time
        "source": facts["source"],
        "catalogued": pointer.images + pointer.set_aside,
        "images": pointer.images,
        "set_aside": facts["set_aside"],
        "set_aside_list": keys.set_aside(build),
        # of the footprints and the list above, for the next build
        "tables": {"sha256": {path.stem: footprints.digests[path.name] for path in footprints.files}},
        "unknown_values": facts["unknown_values"],
        "outside_test_box": facts["outside_test_box"],
        # the mosaic's own, where readers found it before there were other products
        "archive": {**facts["product"], "key": pointer.archive, "plan": facts["plan"]},
        "taken_over": facts["taken_over"],
        "tiles_by_zoom": audit.number("tiles_by_zoom"),
        "images_by_zoom": audit.number("images_by_zoom"),
        "audit": mosaic["audit"],
        "products": products,
        **({"imagery": made[IMAGERY].facts["joined"]} if IMAGERY in made else {}),
        "confirmed": confirmed,
        "seconds": _seconds(made, audits),
        "versions": {
            **facts["versions"],
            "oam-mosaic-assets": __version__,
            "dagster": dg.__version__,
            "GEOS": shapely.geos_version_string,
            "python": platform.python_version(),
        },
    }
    return Candidate(
        parts=[
            Part(
                name=each.name,
                stored=_stored(keys.staging, staged, staged.path),
                expected=Expected.of_file(staged.path, each.content_type),
            )
            for each, staged in made.items()
        ],
        footprints=_stored(keys.staging, footprints, footprints.path),
        set_aside=_stored(keys.staging, footprints, footprints.file(SET_ASIDE)),
        pointer=pointer,
        manifest=manifest,
        tilejson=_tilejson_of(archive, build),
        names_any=lambda ids: (
            not ids.isdisjoint(changed)
            or any(names_any(path, ids, is_ours=True) for path in footprints.files)
        ),
    )


def _with_density(candidate: Candidate, counted: Artifact, releases: Releases) -> Candidate:
    """Add the tables of the density grid, so that the next build can take over what did not change."""
    stated = {
        "recipe": counted.facts["density"]["recipe"],
        "sha256": {path.stem: counted.digests[path.name] for path in counted.files},
    }
    return replace(
        candidate,
        manifest={**candidate.manifest, "density": stated},
        density={path.stem: _stored(releases.keys.staging, counted, path) for path in counted.files},
    )


def _described(product: Product, staged: Artifact, audit: Audit, key: str) -> dict[str, Any]:
    """The manifest's entry for a product."""
    return {
        "key": key,
        "content_type": product.content_type,
        **staged.facts["product"],
        "plan": staged.facts.get("plan"),
        "taken_over": staged.facts.get("taken_over"),
        "audit": [{"check": each.name, "passed": each.passed, "text": each.text} for each in audit.verdicts],
    }


def _seconds(made: Mapping[Product, Artifact], audits: Mapping[str, Audit]) -> dict[str, float]:
    """How long each stage took. Audits are named after their product, except the mosaic's: just `audit`."""
    spent = {stage: each for staged in made.values() for stage, each in staged.facts["seconds"].items()}
    return spent | {
        "audit" if each == MOSAIC else f"audit of {each.word}": audits[each.name].seconds for each in made
    }


def _stored(key_of: Callable[[str, str], str], artifact: Artifact, file: Path) -> StoredObject:
    """The staged object as it was when it was fetched, so that a copy can be pinned to it."""
    key = key_of(artifact.build, file.name)
    return StoredObject(key, artifact.etags[file.name], file.stat().st_size, datetime.now(UTC))


def _tilejson_of(archive: Archive, build: str) -> Callable[[str], Mapping[str, Any]]:
    metadata, bounds, header = archive.metadata, archive.bounds, archive.header

    def document(address: str) -> Mapping[str, Any]:
        return tilejson(
            metadata=metadata,
            bounds=bounds,
            zoom_min=header["min_zoom"],
            zoom_max=header["max_zoom"],
            archive_address=address,
            build=build,
        )

    return document


def _picture(footprints: Path) -> bytes:
    return world_picture(
        shapely.from_wkb(rows["geometry"].to_numpy()) for rows in read_batches(footprints, ("geometry",))
    )


def _metadata(
    releases: Releases, candidate: Candidate, pointer: Pointer, picture: bytes, seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What a maintainer wants to know about a publication; numbers are plotted over time."""
    in_words = counts(pointer.images, pointer.set_aside, candidate.manifest["outside_test_box"])
    coverage = as_markdown(picture, f"Build {pointer.build}. {in_words}. {LEGEND}")
    public = releases.store.public_address
    address = public(releases.keys.archive)
    others = {name: each for name, each in pointer.products.items() if name != MOSAIC.name}
    return {
        "coverage": dg.MetadataValue.md(coverage),
        "counts": in_words,
        "address": dg.MetadataValue.url(address),
        "dagster/uri": address,
        "build": pointer.build,
        "images": pointer.images,
        "set aside": pointer.set_aside,
        "set aside by reason": candidate.manifest["set_aside"],
        "tiles": candidate.manifest["archive"]["tiles"],
        "bytes": pointer.size,
        **{f"bytes: {name}": each["bytes"] for name, each in others.items()},
        **{f"address: {name}": dg.MetadataValue.url(public(releases.keys.fixed(name)[0])) for name in others},
        "sha256": pointer.sha256,
        "snapshot": pointer.snapshot_taken_at,
        "manifest": dg.MetadataValue.url(public(pointer.manifest)),
        "seconds": round(sum(seconds.values()), 2),
        **{f"seconds: {stage}": spent for stage, spent in seconds.items()},
    }
