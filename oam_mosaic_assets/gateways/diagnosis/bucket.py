"""Whether a bucket lets a publisher do everything it needs to, tried out on probe objects."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.errors import MosaicError, StoreUnavailable
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State, tried
from oam_mosaic_assets.gateways.diagnosis.probed_bucket import NO_ETAG, ORIGIN, PROBE, ProbedBucket
from oam_mosaic_assets.gateways.diagnosis.probes import ABANDONED, NAME, left_behind
from oam_mosaic_assets.gateways.object_store import PreconditionFailed, StoredObject

MOST_SKEW: Final = timedelta(seconds=60)
"""The largest acceptable difference between the two clocks: half the lifetime of the publisher's lock."""

EXPOSED: Final = ("ETag", "Content-Range", "Content-Length")
CONTENT: Final = b"A probe by `oam-mosaic doctor`; it may be deleted.\n"


def utc_now() -> datetime:
    """The time on this machine's clock."""
    return datetime.now(UTC)


class BucketExamination:
    """Tries out a bucket with probe objects under names of their own, which are deleted whatever happens.

    Args:
        bucket: accessed as a publisher would access it.
        keys: where a publisher writes.
        now: this machine's clock.
    """

    def __init__(self, bucket: ProbedBucket, keys: Keys, *, now: Callable[[], datetime] = utc_now) -> None:
        self._bucket = bucket
        self._keys = keys
        self._now = now
        self._roots = (f"{keys.staging_root}{NAME}", f"{keys.prefix}{NAME}")
        self._private, self._public = (f"{root}{secrets.token_hex(8)}" for root in self._roots)
        self._copied = f"{self._private}-copy"
        self._probes = (self._private, self._public, self._copied)

    def findings(self) -> Iterator[Finding]:
        """Check each permission, and each guarantee of the server, in turn."""
        left: list[str] = []
        listing = tried("bucket: list", "objects can be listed", lambda: left.extend(self._left_behind()))
        if listing.state is State.UNREACHABLE:
            yield Finding("bucket", listing.state, listing.text, listing.hint)
            return
        found: list[Finding] = []
        try:
            for each in self._tried(listing):
                found.append(each)
                if each.state is State.UNREACHABLE:  # the rest would only wait and fail as well
                    break
        finally:
            deleting = tried(
                "bucket: delete",
                "objects can be deleted; the probe objects are gone",
                lambda: self._bucket.delete([*self._probes, *left]),
            )
        yield from found
        if found[0].is_in_the_way:  # deleting fails for the same reason
            return
        if deleting.is_in_the_way:
            left_for_later = "A later run deletes the probe objects, in an hour at the earliest."
            deleting = replace(deleting, hint=f"{deleting.hint} {left_for_later}")
        yield deleting

    def _left_behind(self) -> Iterator[str]:
        for root in self._roots:
            yield from left_behind(self._bucket, root, now=self._now())

    def _tried(self, listing: Finding) -> Iterator[Finding]:
        written: list[StoredObject] = []
        writing = tried("bucket: write", "objects can be written", lambda: written.append(self._write()))
        if listing.is_in_the_way and listing.hint == writing.hint:
            yield Finding("bucket", listing.state, listing.text, listing.hint)  # one cause for all of it
            return
        yield Finding("bucket", State.OK, f"{self._bucket.origin} answers")
        yield listing
        yield writing
        if not written:
            yield Finding("bucket: other rights", State.UNTRIED, "not tried: nothing can be written")
            return
        yield self._clock(written[0])
        yield self._conditions(written[0])
        yield from self._uploads()
        reading = tried("bucket: read", "objects can be read", self._read)
        yield reading
        publishing = tried(
            "bucket: publish", "objects can be written with the ACL public-read", self._write_publicly
        )
        yield publishing
        if reading.is_in_the_way:
            yield Finding("bucket: copy", State.UNTRIED, "not tried: copying requires reading")
        else:
            yield from self._copies()
        if publishing.is_in_the_way:
            yield Finding("bucket: public", State.UNTRIED, "not tried: nothing can be made public")
            return
        yield from self._strangers()

    def _write(self) -> StoredObject:
        return self._bucket.put_bytes(self._private, CONTENT, PROBE)

    def _write_publicly(self) -> None:
        self._bucket.put_bytes(self._public, CONTENT, PROBE, public=True)

    def _read(self) -> StoredObject:
        found, seen = self._bucket.get_bytes(self._private), self._bucket.head(self._private)
        if found is None or seen is None or found[0] != CONTENT or found[1] != seen:
            raise StoreUnavailable(
                f"{self._bucket.origin}/{self._private} does not hold what was just written there",
                hint="Check that S3_ENDPOINT is an S3 server that returns what was just written.",
            )
        return seen

    def _clock(self, written: StoredObject) -> Finding:
        skew = abs(self._now() - written.written_at)
        if skew <= MOST_SKEW:
            return Finding("bucket: clock", State.OK, "the clocks of this machine and the store agree")
        return Finding(
            "bucket: clock",
            State.WARNING,
            f"this machine's and the store's are {skew.total_seconds():,.0f} s apart, and locks rely on them",
            "Set this machine's clock (NTP).",
        )

    def _conditions(self, written: StoredObject) -> Finding:
        """Check conditional writes, which the lock and the pointer depend on."""

        def is_written(*, if_match: str | None = None, if_absent: bool = False) -> bool:
            try:
                self._bucket.put_bytes(self._private, CONTENT, PROBE, if_match=if_match, if_absent=if_absent)
            except PreconditionFailed:
                return False
            return True

        subject = "bucket: conditions"
        try:
            is_renewed = is_written(if_match=written.etag)
            ignored = [
                name
                for name, was_written in (
                    ("If-Match", is_written(if_match=NO_ETAG)),
                    ("If-None-Match", is_written(if_absent=True)),
                )
                if was_written
            ]
        except MosaicError as error:
            return Finding.of(subject, error)
        if not is_renewed:
            return Finding(
                subject,
                State.WRONG,
                "the server refuses If-Match with the ETag that it returned, so no lock can be renewed",
                "Use a server, or a newer version of it, that supports conditional writes.",
            )
        if ignored:
            return Finding(
                subject,
                State.WARNING,
                f"the server ignores {' and '.join(ignored)}: two publishers would not notice each other",
                "Publish here from one machine only, or use a newer version of the server.",
            )
        return Finding(subject, State.OK, "If-Match and If-None-Match are honoured")

    def _uploads(self) -> Iterator[Finding]:
        aborting = tried(
            "bucket: uploads",
            "multipart uploads can be started and aborted",
            lambda: self._bucket.begin_and_abort_upload(self._private),
        )
        yield aborting
        listing = tried(
            "bucket: old uploads",
            "uploads left by killed runs can be found",
            lambda: self._bucket.abandon_uploads(self._private, older_than_seconds=ABANDONED.total_seconds()),
        )
        if listing.state is State.WRONG:  # a build publishes without it
            listing = Finding(listing.subject, State.WARNING, listing.text, listing.hint)
        yield listing
        if aborting.is_in_the_way:
            yield Finding("bucket: fixed keys", State.UNTRIED, "not tried: no upload can be aborted")
            return
        fixed = self._keys.all_fixed()
        refusals = [each for key in fixed if (each := self._fixed_key(key)).is_in_the_way]
        yield from refusals or [Finding("bucket: fixed keys", State.OK, f"{', '.join(fixed)} can be written")]

    def _fixed_key(self, key: str) -> Finding:
        """Begin and abort an upload: nothing else is written to a fixed key before a build is complete."""
        return tried("bucket: fixed keys", "", lambda: self._bucket.begin_and_abort_upload(key, public=True))

    def _copies(self) -> Iterator[Finding]:
        copying = tried(
            "bucket: copy",
            "objects can be copied within the store",
            lambda: self._bucket.copy(self._read(), self._copied, PROBE),
        )
        yield copying
        if copying.is_in_the_way:
            return
        try:
            copies_another = self._bucket.copies_another(self._private, self._copied)
        except MosaicError as error:
            yield Finding.of("bucket: pinned copy", error)
            return
        if copies_another:
            yield Finding(
                "bucket: pinned copy",
                State.WARNING,
                "the server ignores the condition on the source of a copy; the source is checked before, "
                "but could be replaced in between",
                "Make sure nobody else writes below the prefix, or use a newer version of the server.",
            )
        else:
            yield Finding("bucket: pinned copy", State.OK, "only the audited bytes are copied")

    def _strangers(self) -> Iterator[Finding]:
        address = self._bucket.public_address(self._public)
        try:
            start = self._bucket.read_publicly(self._public, start=2, length=5)
            is_private = self._bucket.read_publicly(self._private) is None
        except MosaicError as error:
            yield Finding.of("bucket: public", error)
            return
        if start != CONTENT[2:7]:
            yield Finding(
                "bucket: public",
                State.WRONG,
                f"{address} is not readable without credentials, although its ACL is public-read",
                "The bucket must allow public objects: allow ACLs (Object Ownership) and do not block "
                "public access; set S3_PUBLIC_URL if readers use another address.",
            )
        else:
            yield Finding("bucket: public", State.OK, "public objects can be read anonymously, in ranges too")
            yield self._other_origins()
        if is_private:
            yield Finding("bucket: private", State.OK, "other objects cannot be read anonymously")
        else:
            yield Finding(
                "bucket: private",
                State.WARNING,
                "objects that are not public can be read anonymously, such as builds that failed their audit",
                "Remove public read access from the bucket's policy: ACLs make public what should be.",
            )

    def _other_origins(self) -> Finding:
        subject = "bucket: CORS"
        try:
            preflight = self._bucket.answers_preflight(self._public)
            answer = self._bucket.answers_origin(self._public)
        except MosaicError as error:
            return Finding.of(subject, error)
        lacking = []
        allowed = {each.get("Access-Control-Allow-Origin") for each in (preflight, answer)}
        if not allowed <= {"*", ORIGIN}:
            lacking.append("requests from other origins are not allowed")
        else:
            if not _listed("Range", preflight.get("Access-Control-Allow-Headers")):
                lacking.append("the header Range is not allowed")
            exposed = answer.get("Access-Control-Expose-Headers")
            hidden = [name for name in EXPOSED if not _listed(name, exposed)]
            if hidden:
                lacking.append(f"{', '.join(hidden)} not exposed")
        if not lacking:
            return Finding(subject, State.OK, "maps on other sites can read it (CORS)")
        return Finding(
            subject,
            State.WARNING,
            f"maps on other sites cannot read it: {'; '.join(lacking)}",
            "Apply the CORS configuration in deploy/s3/cors.json (aws s3api put-bucket-cors).",
        )


def _listed(name: str, header: str | None) -> bool:
    names = {each.strip().lower() for each in (header or "").split(",")}
    return name.lower() in names or "*" in names
