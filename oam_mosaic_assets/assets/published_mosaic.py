"""The audited archive made public: the object that everyone's map reads."""

import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import shapely

from oam_mosaic_assets import __version__
from oam_mosaic_assets.assets.stac_footprints import SET_ASIDE, TAKEDOWN_TAG
from oam_mosaic_assets.core.archive import Archive, open_archive
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.picture import LEGEND, as_markdown, world_picture
from oam_mosaic_assets.core.release import ARCHIVE, MANIFEST, Pointer, counts, tilejson
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.errors import AuditFailed, HeldBack
from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.releases import READ_BACK, Candidate, Releases
from oam_mosaic_assets.resources.auditor import Audit, Auditor
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.staging import discard_staged

CONFIRM_TAG = "oam-mosaic/confirm"
"""Tag of a run whose build a person lets pass; holds the reason."""


@dg.asset(
    group_name="coverage",
    kinds={"s3", "pmtiles"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="1",
    pool="publication",  # limited in production alone: only there is a slot freed that a killed run held
)
def published_mosaic(
    context: dg.AssetExecutionContext,
    stac_footprints: Artifact,
    global_mosaic_pmtiles: Artifact,
    releases: dg.ResourceParam[Releases],
    auditor: dg.ResourceParam[Auditor],
    progress: dg.ResourceParam[Progress],
) -> dg.MaterializeResult[None]:
    """The public mosaic: `global-mosaic.pmtiles`, its TileJSON, its aliases, and the pointer `latest.json`.

    The archive is copied within the store, pinned to the bytes that were audited, and read back as a stranger
    would before this says that it is public.
    """
    clock = time.perf_counter()
    confirmed = context.run.tags.get(CONFIRM_TAG)
    with failing_clearly():
        refuse_mixture(global_mosaic_pmtiles, stac_footprints)
        audit = auditor.of(global_mosaic_pmtiles, stac_footprints)
        _refuse(audit, global_mosaic_pmtiles.build, confirmed)
        with open_archive(global_mosaic_pmtiles.path) as archive:
            candidate = _candidate(
                releases, archive, global_mosaic_pmtiles, stac_footprints, audit, confirmed
            )
        pointer = releases.publish(
            candidate,
            confirmed=confirmed,
            despite_hold=TAKEDOWN_TAG in context.run.tags,
            say=lambda text: progress.step(context.log, "publishing", None, text),
            warn=context.log.warning,
        )
    progress.step(context.log, "publishing", 1.0, pointer.build)
    seconds = {
        **global_mosaic_pmtiles.facts["seconds"],
        "audit": audit.seconds,
        "published_mosaic": round(time.perf_counter() - clock, 2),
    }
    return dg.MaterializeResult(
        metadata=_metadata(releases, candidate, pointer, stac_footprints.path, seconds)
    )


def refuse_mixture(archive: Artifact, footprints: Artifact) -> None:
    """See that both are of one build: assets that are materialised one by one may be of several.

    Raises:
        AuditFailed: they are not.
    """
    if archive.build != footprints.build:
        raise AuditFailed(
            f"The archive {archive.build} and the footprints {footprints.build} belong to different builds.",
            hint="Materialise the whole chain: job `global_mosaic`, or `oam-mosaic build`.",
        )


def _refuse(audit: Audit, build: str, confirmed: str | None) -> None:
    if audit.failures:
        raise AuditFailed(
            f"{build} did not pass its audit: {'; '.join(each.text for each in audit.failures)}.",
            hint="The public mosaic stays as it was. Mend the cause of the failed checks and build again.",
        )
    if audit.guards and not confirmed:
        raise HeldBack(
            f"{build} is held back: {'; '.join(each.text for each in audit.guards)}.",
            hint=f"If that is right, say so: oam-mosaic publish {build} --confirm REASON.",
        )


def _candidate(
    releases: Releases,
    archive: Archive,
    mosaic: Artifact,
    footprints: Artifact,
    audit: Audit,
    confirmed: str | None,
) -> Candidate:
    facts, build = mosaic.facts, mosaic.build
    staged = releases.keys.staging
    pointer = Pointer(
        build=build,
        digest=facts["snapshot"]["digest"],
        snapshot_taken_at=facts["snapshot"]["taken_at"],
        checked_at=facts["snapshot"]["taken_at"],
        published_at="",
        source=facts["source"],
        images=facts["images"],
        set_aside=sum(facts["set_aside"].values()),
        archive=releases.keys.release(build, ARCHIVE),
        manifest=releases.keys.release(build, MANIFEST),
        size=archive.size,
        sha256=facts["archive"]["sha256"],
    )
    manifest = {
        "build": build,
        "snapshot": facts["snapshot"],
        "source": facts["source"],
        "catalogued": pointer.images + pointer.set_aside,
        "images": pointer.images,
        "set_aside": facts["set_aside"],
        "set_aside_list": releases.keys.set_aside(build),
        "unknown_values": facts["unknown_values"],
        "outside_test_box": facts["outside_test_box"],
        "archive": {**facts["archive"], "key": pointer.archive, "plan": facts["plan"]},
        "taken_over": facts["taken_over"],
        "tiles_by_zoom": audit.number("tiles_by_zoom"),
        "images_by_zoom": audit.number("images_by_zoom"),
        "audit": [{"check": each.name, "passed": each.passed, "text": each.text} for each in audit.verdicts],
        "confirmed": confirmed,
        "seconds": facts["seconds"] | {"audit": audit.seconds},
        "versions": {
            **facts["versions"],
            "oam-mosaic-assets": __version__,
            "dagster": dg.__version__,
            "GEOS": shapely.geos_version_string,
            "python": platform.python_version(),
        },
    }
    return Candidate(
        archive=_stored(staged, mosaic, mosaic.path),
        footprints=_stored(staged, footprints, footprints.path),
        set_aside=_stored(staged, footprints, footprints.file(SET_ASIDE)),
        head=_read(mosaic.path, 0, READ_BACK),
        tail=_read(mosaic.path, max(0, archive.size - READ_BACK), READ_BACK),
        pointer=pointer,
        manifest=manifest,
        tilejson=_tilejson_of(archive, build),
        names_any=lambda ids: any(names_any(path, ids) for path in footprints.files),
    )


def _stored(key_of: Callable[[str, str], str], artifact: Artifact, file: Path) -> StoredObject:
    """The staged object as it was when it was fetched, so that a copy can be pinned to it."""
    key = key_of(artifact.build, file.name)
    return StoredObject(key, artifact.etags[file.name], file.stat().st_size, datetime.now(UTC))


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as content:
        content.seek(start)
        return content.read(length)


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


def _metadata(
    releases: Releases, candidate: Candidate, pointer: Pointer, footprints: Path, seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What a maintainer wants to see of a publication; numbers are plotted over time."""
    batches = (
        shapely.from_wkb(rows["geometry"].to_numpy()) for rows in read_batches(footprints, ("geometry",))
    )
    in_words = counts(pointer.images, pointer.set_aside, candidate.manifest["outside_test_box"])
    picture = as_markdown(world_picture(batches), f"Build {pointer.build}. {in_words}. {LEGEND}")
    address = releases.store.public_address(releases.keys.archive)
    return {
        "coverage": dg.MetadataValue.md(picture),
        "counts": in_words,
        "address": dg.MetadataValue.url(address),
        "dagster/uri": address,
        "build": pointer.build,
        "images": pointer.images,
        "set aside": pointer.set_aside,
        "set aside by reason": candidate.manifest["set_aside"],
        "tiles": candidate.manifest["archive"]["tiles"],
        "bytes": pointer.size,
        "sha256": pointer.sha256,
        "snapshot": pointer.snapshot_taken_at,
        "manifest": dg.MetadataValue.url(releases.store.public_address(pointer.manifest)),
        "seconds": round(sum(seconds.values()), 2),
        **{f"seconds: {stage}": spent for stage, spent in seconds.items()},
    }
