"""Why an image could not be read. This never fails a build, and never goes unreported."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why an image could not be read."""

    NO_ASSET = "no_asset"
    BAD_ADDRESS = "bad_address"
    REFUSED_ADDRESS = "refused_address"
    UNKNOWN_HOST = "unknown_host"
    UNREACHABLE = "unreachable"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    SERVER_FAULT = "server_fault"
    NO_RANGES = "no_ranges"
    TRUNCATED = "truncated"
    CHANGED = "changed"
    SLOW = "slow"
    TOO_LARGE = "too_large"
    NOT_TIFF = "not_tiff"
    DAMAGED = "damaged"
    NO_GEOREFERENCE = "no_georeference"
    UNSUPPORTED = "unsupported"
    ELSEWHERE = "elsewhere"
    CRASHED = "crashed"


WORDS: Final = {
    Reason.NO_ASSET: "the item names no image",
    Reason.BAD_ADDRESS: "its address is not http, https or s3, or is not valid, or too long",
    Reason.REFUSED_ADDRESS: "its address leads to a host that is not public",
    Reason.UNKNOWN_HOST: "its host name cannot be resolved",
    Reason.UNREACHABLE: "its host does not answer",
    Reason.MISSING: "there is nothing at its address",
    Reason.FORBIDDEN: "its host does not allow public access to it",
    Reason.SERVER_FAULT: "its host answers with an error",
    Reason.NO_RANGES: "its host does not support range requests, and it is too large to read whole",
    Reason.TRUNCATED: "it is cut short",
    Reason.CHANGED: "it changed while it was being read",
    Reason.SLOW: "it took too long",
    Reason.TOO_LARGE: "it needs more bytes, pixels or memory than one image may use",
    Reason.NOT_TIFF: "it is not a TIFF",
    Reason.DAMAGED: "it cannot be decoded",
    Reason.NO_GEOREFERENCE: "it has no georeference, or one that is not supported",
    Reason.UNSUPPORTED: "it is of a kind that cannot be shown",
    Reason.ELSEWHERE: "it shows nothing within its own footprint",
    Reason.CRASHED: "the process that read it died",
}
"""Each reason in words, for reports."""

PASSING: Final = frozenset({Reason.UNREACHABLE, Reason.SERVER_FAULT, Reason.TRUNCATED, Reason.UNKNOWN_HOST})
"""Reasons that may pass within moments: the request is retried after a short wait."""

OF_FILES: Final = frozenset(
    {Reason.TOO_LARGE, Reason.NOT_TIFF, Reason.DAMAGED, Reason.NO_GEOREFERENCE, Reason.UNSUPPORTED}
)
"""Reasons that lie in the file itself, and so do not pass until it changes."""

NO_MEMORY: Final = "not enough memory"
"""The detail of `TOO_LARGE` if memory ran out, for which other images that were open may be to blame."""

COMPUTED: Final = "its process was stopped while it computed"
"""The detail of `SLOW` if what took too long was to decode the image, and not to receive it."""

BEYOND_ITS_END: Final = "it points to bytes beyond its end"
"""The detail of `TRUNCATED` if the file is cut short; otherwise only an answer of its host was."""


class Unreadable(Exception):
    """An image cannot be read.

    Attributes:
        reason: why.
        detail: more about it, often in the words of the host or library; one line of at most 200 characters.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = " ".join(detail.split())[:200]

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail or WORDS[self.reason]}"
