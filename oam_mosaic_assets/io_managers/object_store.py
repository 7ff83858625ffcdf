"""What assets pass to each other: files as private objects, under the name of the build they belong to.

An artifact is stored as its files and, last, a description of them (`<asset>.json`): sizes, digests, and what
is known about it. The steps of one asset do the same. The event log says which build a run's upstream asset
or step belongs to; everything else is in the store, so each step may run in another process or on another
machine.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import dagster as dg
from dagster._core.events import HandledOutputData  # what such an event holds; not exported

from oam_mosaic_assets.core.artifact import Artifact, sha256_of
from oam_mosaic_assets.core.release import MANIFEST, Keys, as_json, is_overtaken
from oam_mosaic_assets.errors import (
    MosaicError,
    PublicationLost,
    SettingsError,
    StoreRefused,
    StoreUnavailable,
)
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.scratch import Scratch

BUILD: Final = "build"
"""Metadata key of a materialisation: the build that it belongs to."""

BUILD_TAG: Final = "oam-mosaic/build"
"""Tag of a run that works on an earlier build."""

CONFIRM_TAG: Final = "oam-mosaic/confirm"
"""Tag of a run whose build a person confirmed despite the guards; holds the reason."""

_CONTENT_TYPES: Final = {
    ".parquet": "application/vnd.apache.parquet",
    ".geojsonl": "application/geo+json-seq",
    ".pmtiles": "application/vnd.pmtiles",
    ".json": "application/json",
}

_LOOKED_BACK: Final = 50
"""How many of the latest materialisations are searched for this run's."""


class ObjectStoreIOManager(dg.IOManager):
    """Keeps artifacts in an object store. Guarantees are the same for S3 and a folder."""

    def __init__(self, store: ObjectStore, keys: Keys) -> None:
        self.store = store
        self.keys = keys
        self._fetched: dict[Path, str] = {}

    def handle_output(self, context: dg.OutputContext, obj: Artifact) -> None:
        """Store the files, then the description that makes them an artifact.

        The next step fetches them, even in this process, so that what is audited is what is in the store.
        """
        name = _name_of(context)
        files: list[dict[str, Any]] = []
        with failing_clearly(), self._whole_or_nothing(name, obj):
            for path in obj.files:
                headers = Headers(_CONTENT_TYPES.get(path.suffix, "application/octet-stream"))
                stored = self.store.put_file(self.keys.staging(obj.build, path.name), path, headers)
                files.append(
                    {
                        "name": path.name,
                        "size": stored.size,
                        "sha256": obj.digests.get(path.name) or sha256_of(path),
                    }
                )
            description = {"asset": name, "build": obj.build, "files": files, "facts": obj.facts}
            key = self.keys.staging(obj.build, f"{name}.json")
            self.store.put_bytes(key, _sealed(description), Headers("application/json"))
        for path in obj.files:  # stored files need not fill the disk as well
            path.unlink()
        context.add_output_metadata(
            {
                BUILD: obj.build,
                "dagster/uri": f"{self.store.origin}/{self.keys.staging(obj.build, obj.path.name)}",
                "sha256": files[0]["sha256"],
                "bytes": files[0]["size"],
            }
        )

    def load_input(self, context: dg.InputContext) -> Artifact:
        """Fetch the files into scratch, and verify that they are the ones that were stored.

        Steps in the same process share them; none changes a file that it was given.
        """
        name = context.asset_key.path[-1] if context.has_asset_key else _name_of(_upstream(context))
        with failing_clearly():
            build = self._build_of(context)
            key = self.keys.staging(build, f"{name}.json")
            found = self.store.get_bytes(key)
            if found is None:
                raise self._gone(key, build, context)
            try:
                description = _unsealed(found[0])
            except ValueError as error:
                raise self._not_as_stored(key, str(error)) from None
            scratch: Scratch = context.resources.scratch
            folder = scratch.shared_folder(f"staged-{build}")
            etags = {each["name"]: self._fetch(build, each, folder, context) for each in description["files"]}
        files = tuple(folder / name for name in etags)
        digests = {each["name"]: each["sha256"] for each in description["files"]}
        return Artifact(build=build, files=files, facts=description["facts"], etags=etags, digests=digests)

    @contextmanager
    def _whole_or_nothing(self, name: str, artifact: Artifact) -> Iterator[None]:
        """Delete what was stored before a failure: no event names the build yet, so nobody else can."""
        names = [*(path.name for path in artifact.files), f"{name}.json"]
        try:
            yield
        except BaseException:
            with suppress(MosaicError):  # the next publication sweeps it up
                self.store.delete([self.keys.staging(artifact.build, each) for each in names])
            raise

    def _fetch(self, build: str, stated: dict[str, Any], folder: Path, context: dg.InputContext) -> str:
        """Copy one file into the folder, and return its ETag."""
        key, target = self.keys.staging(build, stated["name"]), folder / stated["name"]
        if (etag := self._fetched.get(target)) and target.exists():
            present = self.store.head(key)
            if present and present.etag == etag:
                return etag
        stored = self.store.get_file(key, target)
        if stored is None:
            raise self._gone(key, build, context)
        if sha256_of(target) != stated["sha256"]:
            raise self._not_as_stored(key, "its digest differs")
        self._fetched[target] = stored.etag
        return stored.etag

    def _not_as_stored(self, key: str, why: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{key} in {self.store.origin} is not what was stored there: {why}.",
            hint="Build again; if it happens again, check who else writes to this place.",
        )

    def _build_of(self, context: dg.InputContext) -> str:
        """The build that this run works on: from its tag, else from what it or an earlier run made."""
        run = context.step_context.dagster_run
        if tagged := run.tags.get(BUILD_TAG):
            return tagged
        if recorded := next(self._recorded(context), None):
            return recorded
        if CONFIRM_TAG in run.tags:
            raise SettingsError(
                f"A confirmation needs a build: the run has no tag {BUILD_TAG}.",
                hint="Name the one that was looked at: oam-mosaic publish BUILD --confirm REASON, or set the "
                "tag in the launchpad.",
            )
        wanted = context.asset_key.to_user_string() if context.has_asset_key else _upstream(context).step_key
        raise StoreRefused(
            f"{wanted} has never been materialised here.",
            hint="Materialise the whole chain: job `global_mosaic`, or `oam-mosaic build`.",
        )

    def _recorded(self, context: dg.InputContext) -> Iterator[str]:
        """The builds that the input was made for, as Dagster recorded them.

        This run's own comes first, then that of the runs it retries. No others count if a person confirmed
        the run without naming a build, as nobody may have looked at them.
        """
        if not context.has_asset_key:
            yield from _handed_on(context)
            return
        run = context.step_context.dagster_run
        mine = [run.run_id, run.parent_run_id, run.root_run_id]
        records = context.instance.fetch_materializations(context.asset_key, limit=_LOOKED_BACK).records
        if CONFIRM_TAG in run.tags and BUILD_TAG not in run.tags:
            records = [each for each in records if each.run_id in mine]
        for record in sorted(
            records, key=lambda each: mine.index(each.run_id) if each.run_id in mine else len(mine)
        ):
            materialization = record.asset_materialization
            build = materialization and materialization.metadata.get(BUILD)
            if build:
                yield str(build.value)

    def _gone(self, key: str, build: str, context: dg.InputContext) -> MosaicError:
        """The error for a staged object that is missing: a publication may have deleted it."""
        releases = Releases(self.store, self.keys)
        current = releases.current()
        public = current[0].build if current else ""
        if build in (waiting := releases.staged.waiting()):
            return StoreRefused(
                f"{build} has no {key.rpartition('/')[2]}: these settings name a product that it lacks.",
                hint="Publish it with the MOSAIC_PRODUCTS that it was built with, or build again.",
            )
        if public != build and build not in self._recorded(context):  # only named, it may never have existed
            held = ", ".join(waiting) or "none"
            swept = (
                f" If it was, it was deleted when the newer {public} became public."
                if is_overtaken(build, public)
                else ""
            )
            return StoreRefused(
                f"Build {build} is not staged in {self.store.origin}; staged there: {held}.{swept}",
                hint="Name one that is staged, or build again: `oam-mosaic build`.",
            )
        if is_overtaken(build, public):
            is_named = BUILD_TAG in context.step_context.dagster_run.tags
            return _overtaken(build, public, is_named=is_named)
        if public == build:
            return StoreRefused(
                f"{build} is public; its staged objects were then deleted.",
                hint="Nothing needs to be done. For a newer mosaic, materialise the whole chain: job "
                "`global_mosaic`, or `oam-mosaic build`.",
            )
        if self.store.head(self.keys.release(build, MANIFEST)):
            return StoreRefused(
                f"{build} has been published before; its staged objects were deleted then.",
                hint=f"To make it public again: oam-mosaic rollback {build} --reason REASON.",
            )
        text = (
            f"{key} is not in {self.store.origin}: a build's staged objects are deleted once it has failed."
        )
        hint = "Materialise the whole chain again: job `global_mosaic`, or `oam-mosaic build`."
        if newer := [each for each in waiting if is_overtaken(build, each)]:
            text = f"{build} was deleted when {newer[-1]} was held back, which waits in its place."
            hint = f"Publish that one: oam-mosaic publish {newer[-1]} --confirm REASON."
        return StoreRefused(text, hint=hint)


def _overtaken(build: str, public: str, *, is_named: bool) -> MosaicError:
    """The error for a build that is older than the public one.

    Args:
        is_named: whether a person asked for this very build.
    """
    text = f"The newer mosaic {public} is public; the staged objects of {build} were then deleted."
    if not is_named:
        return PublicationLost(text, hint="Nothing needs to be done; the newer mosaic stays public.")
    return StoreRefused(
        f"{build} was overtaken and can no longer be published. {text}",
        hint="`oam-mosaic status` says what is public; `oam-mosaic build` builds from the catalogue anew.",
    )


def _name_of(output: dg.OutputContext) -> str:
    """An artifact's name in the store: that of its asset, or of the step that made it."""
    if output.has_asset_key:
        return output.asset_key.path[-1]
    return re.sub(r"\W+", ".", f"{output.step_key} {output.mapping_key or ''}").strip(".")


def _upstream(context: dg.InputContext) -> dg.OutputContext:
    if context.upstream_output is None:  # every input here is the output of an asset or a step
        raise dg.DagsterInvariantViolationError(f"nothing produces the input {context.name}")
    return context.upstream_output


def _handed_on(context: dg.InputContext) -> Iterator[str]:
    """The build that a step of the same asset made this for, in this run or in the one it retries."""
    upstream = _upstream(context)
    try:
        made_in = upstream.run_id
    except dg.DagsterInvariantViolationError:  # no run did
        return
    for event in context.instance.all_logs(made_in, of_type=dg.DagsterEventType.HANDLED_OUTPUT):
        handled = event.dagster_event
        if handled and handled.step_key == upstream.step_key:
            build = cast("HandledOutputData", handled.event_specific_data).metadata.get(BUILD)
            if build:
                yield str(build.value)


def _sealed(description: dict[str, Any]) -> bytes:
    """A description with its own digest."""
    return as_json({**description, "sha256": hashlib.sha256(as_json(description)).hexdigest()})


def _unsealed(stored: bytes) -> dict[str, Any]:
    """Recover the description. Raises ValueError if it is not the one that was sealed."""
    try:
        description: dict[str, Any] = json.loads(stored)
        stated = description.pop("sha256")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise ValueError("it cannot be read") from None
    if hashlib.sha256(as_json(description)).hexdigest() != stated:
        raise ValueError("its digest differs")
    return description
