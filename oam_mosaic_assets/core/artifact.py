"""What travels between assets: files, the build they belong to, and what is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What an asset made. Between assets it is kept in the object store; `files` are local copies.

    Attributes:
        build: the build's name.
        files: local copies; the first is the artifact itself, the others accompany it. Names are kept.
        facts: what is known about it and everything it was made from, as JSON.
        etags: of the stored objects that `files` are copies of, by name; empty if they are not stored yet.
        digests: SHA-256 in hex, by name, of those files for which it was already computed.
    """

    build: str
    files: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    etags: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The artifact itself."""
        return self.files[0]

    def file(self, name: str) -> Path:
        """A file by its name."""
        return next(path for path in self.files if path.name == name)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex; the file is read in chunks."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def with_facts(
    source: Artifact,
    *files: Path,
    stage: str,
    seconds: float,
    digests: Mapping[str, str] | None = None,
    **facts: Any,
) -> Artifact:
    """An artifact made from another: it keeps the build's name and all known facts, and adds new ones.

    Args:
        source: what it was made from.
        files: the new artifact's.
        stage: what made it.
        seconds: how long that took.
        digests: SHA-256 of those files for which it is known, by name.
        facts: the new facts.
    """
    spent = {**source.facts["seconds"], stage: round(seconds, 2)}
    return Artifact(
        build=source.build,
        files=files,
        facts={**source.facts, **facts, "seconds": spent},
        digests=digests or {},
    )
