"""A release: how builds and their objects are named, and what pointer and TileJSON contain.

Others rely on these keys; see `docs/contract.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

from oam_mosaic_assets.core.key import check_key
from oam_mosaic_assets.core.product import MOSAIC, Product

ARCHIVE: Final = MOSAIC.name
MANIFEST: Final = "manifest.json"
TILEJSON: Final = "global-mosaic.json"
AUDIT: Final = "audit.json"
CLAIM: Final = "claim.json"
HELD: Final = "held.json"

RUN_LOGS: Final = "mosaic/logs/"
"""Where `deploy/dagster.yaml` keeps the logs of runs, private: a fixed place, whatever the prefix."""

SAMPLE: Final = "sample"
"""The folder of the store that the sample goes to on S3."""

TABLES: Final = ("footprints", "set_aside", "density_cells", "density_kinds", "density_sheets")
"""Tables that are kept of a build besides what it publishes, for later builds."""

FORMAT: Final = 1
"""Format version of the pointer. A reader rejects any other version rather than guessing."""


def audit_name(product: str) -> str:
    """Name of the staged object with a product's audit; the archive's also marks the build as audited."""
    return AUDIT if product == ARCHIVE else f"audit-{product}.json"


def how_to_confirm(build: str | None) -> str:
    """How a person confirms a build that is held back; None for one that was to take an image down."""
    if build is None:  # publishing it would not delete the earlier ones
        return "repeat the takedown (`oam-mosaic takedown --list` names it) with --confirm REASON"
    return f"confirm it: oam-mosaic publish {build} --confirm REASON"


def build_name(started: datetime, digest: str) -> str:
    """A build's name: its start in UTC and the first 12 digits of its snapshot's digest."""
    return f"{started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{digest[:12]}"


def is_build_name(text: str) -> bool:
    """Whether the text is a valid name of a build."""
    return re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{12}", text, re.ASCII) is not None


def is_overtaken(build: str, public: str) -> bool:
    """Whether a build is not the public one and started no later; an empty `public` means that there is none.

    Names are precise to the second: if both builds started in the same one, the one not public has lost.
    """
    return public not in {"", build} and build.partition("-")[0] <= public.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of everything in the object store.

    Attributes:
        archive: the fixed public key of the archive.
        tilejson: the fixed public key of the TileJSON.
        aliases: further fixed keys for the same archive.
        root: prefix of the other products' fixed keys; empty, or ends in a slash.
        prefix: prefix of everything else; ends in a slash.
        shared: prefix of what all `Keys` of a store have in common; if empty, `prefix`.
        products: what builds publish here, the archive first.
        named: fixed keys that differ from their product's name, by that name; the archive's is `archive`.
    """

    archive: str = ARCHIVE
    tilejson: str = TILEJSON
    aliases: tuple[str, ...] = ()
    root: str = ""
    prefix: str = "mosaic/"
    shared: str = ""
    products: tuple[Product, ...] = (MOSAIC,)
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def pointer(self) -> str:
        """States what is public now; written last."""
        return f"{self.prefix}latest.json"

    @property
    def lock(self) -> str:
        """Held by a publisher while it works."""
        return f"{self.prefix}publisher.lock"

    @property
    def hold(self) -> str:
        """Exists while nothing is to be published."""
        return f"{self.prefix}hold.json"

    @property
    def taken_down(self) -> str:
        """The private list of images that no build may show; builds in TEST_MODE obey the same list."""
        return f"{self.shared or self.prefix}taken_down.json"

    @property
    def is_sample(self) -> bool:
        """Whether this is the sample's place on S3, where builds show no catalogue's images."""
        return self.prefix.startswith(f"{SAMPLE}/")

    @property
    def staging_root(self) -> str:
        """Prefix of all staged builds."""
        return f"{self.prefix}staging/"

    def staging(self, build: str, name: str = "") -> str:
        """Private objects of a build that is not public yet."""
        return f"{self.staging_root}{build}/{name}"

    @property
    def releases_root(self) -> str:
        """Prefix of all releases: the published builds that are kept."""
        return f"{self.prefix}builds/"

    def release(self, build: str, name: str = "") -> str:
        """Public objects of a build; never modified."""
        return f"{self.releases_root}{build}/{name}"

    def table(self, name: str, build: str = "") -> str:
        """A private table of a published build, kept as long as the build is.

        Args:
            name: one of `TABLES`.
        """
        return f"{self.prefix}cache/{name}/{build}" + (".parquet" if build else "")

    def tables(self, build: str = "") -> list[str]:
        """The keys of all tables, whether or not the build has them."""
        return [self.table(name, build) for name in TABLES]

    def footprints(self, build: str = "") -> str:
        """The private footprints of a published build."""
        return self.table("footprints", build)

    def set_aside(self, build: str = "") -> str:
        """The private list of a published build's images that could not be drawn, and why."""
        return self.table("set_aside", build)

    @property
    def imagery(self) -> str:
        """The private partitions of imagery; ends in a slash."""
        return f"{self.prefix}cache/imagery/"

    @property
    def imagery_report(self) -> str:
        """The private report on which images the last build read, and which not."""
        return f"{self.imagery}report.json"

    @property
    def viewer(self) -> str:
        """The public page that shows the mosaic; ends in a slash."""
        return f"{self.prefix}viewer/"

    def below(self, root: str) -> Keys:
        """The same keys below a root, such as `sample/`."""
        return Keys(
            archive=root + self.archive,
            tilejson=root + self.tilejson,
            aliases=tuple(root + alias for alias in self.aliases),
            root=root + self.root,
            prefix=root + self.prefix,
            shared=self.shared or self.prefix,
            products=self.products,
            named={name: root + key for name, key in self.named.items()},
        )

    def fixed_archives(self) -> tuple[str, ...]:
        """Every fixed key of the archive, the main one first."""
        return (self.archive, *self.aliases)

    def fixed(self, product: str) -> tuple[str, ...]:
        """Every fixed key of a product, the main one first.

        Args:
            product: its name.
        """
        if product == ARCHIVE:
            return self.fixed_archives()
        return (self.named.get(product, self.root + product),)

    def fixed_of(self, products: Iterable[str]) -> tuple[str, ...]:
        """Every fixed key that changes when these products do: theirs, and the TileJSON's."""
        return (*(key for each in products for key in self.fixed(each)), self.tilejson)

    def all_fixed(self) -> tuple[str, ...]:
        """Every fixed key that builds write here."""
        return self.fixed_of(each.name for each in self.products)

    def product_at(self, fixed: str) -> str:
        """The name of the product whose fixed key this is."""
        if fixed in self.fixed_archives():
            return ARCHIVE
        by_key = {key: name for name, key in self.named.items()}
        return by_key.get(fixed, fixed.removeprefix(self.root))


class NewerFormat(ValueError):
    """The pointer was written by a newer version; the message says which format it has."""


_JSON_TYPES: Final = {
    "str": str,
    "int": int,
    "Mapping[str, str]": dict,
    "Mapping[str, Mapping[str, Any]]": dict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What is public, as stated in `latest.json`.

    Attributes:
        build: the build's name.
        digest: digest of its snapshot.
        snapshot_taken_at: when the catalogue was read, UTC, ISO 8601.
        checked_at: when it was last known to agree with the catalogue; staleness is judged by this.
        published_at: when the build became public.
        source: kind of catalogue: `pgstac`, `stac_api`, `items_file` or `sample`.
        images: number of images drawn.
        set_aside: number of images that could not be drawn.
        archive: key of the build's own archive.
        manifest: key of its manifest.
        size: size of the archive, bytes.
        sha256: SHA-256 of the archive, hex.
        basis: digest of everything that it was made from; empty if unknown. See `Watch.basis`.
        etags: ETag of each fixed key when it was written; a different one means that someone overwrote it.
        products: what the build published, by name, each with the `key` of its own object, `bytes`, `sha256`
            and `content_type`; empty if written by a version that knew only the archive.
    """

    build: str
    digest: str
    snapshot_taken_at: str
    checked_at: str
    published_at: str
    source: str
    images: int
    set_aside: int
    archive: str
    manifest: str
    size: int
    sha256: str
    basis: str = ""
    etags: Mapping[str, str] = field(default_factory=dict)
    products: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def released(self) -> Mapping[str, str]:
        """The key of each product's own object in the release, by the product's name."""
        return {ARCHIVE: self.archive} | {name: each["key"] for name, each in self.products.items()}

    def to_json(self) -> bytes:
        """The pointer as it is stored."""
        return as_json(asdict(self))

    @classmethod
    def from_json(cls, content: bytes) -> Pointer:
        """Parse a stored pointer.

        Raises:
            NewerFormat: it is of a format that only newer versions read.
            ValueError: it is not a pointer of this format, or names what cannot be an object.
        """
        try:
            stated = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not a pointer: {error}") from None
        if not isinstance(stated, dict) or "format" not in stated:
            raise ValueError("it is not a pointer: it states no format")
        if stated["format"] != FORMAT:  # first, as another format may have other fields
            is_newer = isinstance(stated["format"], int) and stated["format"] > FORMAT
            raise (NewerFormat if is_newer else ValueError)(
                f"it is of format {stated['format']!r}, but this version reads format {FORMAT}"
            )
        try:
            pointer = cls(**stated)
        except TypeError as error:
            raise ValueError(f"it is not a pointer: {error}") from None
        wrong = [
            each.name
            for each in fields(cls)
            if not isinstance(getattr(pointer, each.name), _JSON_TYPES[str(each.type)])
        ]
        if wrong:
            raise ValueError(f"it is not a pointer: {wrong} are of the wrong type")
        if not all(_is_described(each) for each in pointer.products.values()):
            raise ValueError("it is not a pointer: a product lacks its key, bytes, sha256 or content type")
        for moment in (pointer.snapshot_taken_at, pointer.checked_at):
            if datetime.fromisoformat(moment).tzinfo is None:
                raise ValueError(f"it is not a pointer: {moment} has no time zone")
        for key in (pointer.archive, pointer.manifest, *pointer.released.values(), *pointer.etags):
            check_key(key)
        return pointer

    def age_hours(self, now: datetime) -> float:
        """Hours since the mosaic was last known to agree with the catalogue."""
        return (now - datetime.fromisoformat(self.checked_at)).total_seconds() / 3600.0

    def is_comparable(self, source: str) -> bool:
        """Whether a source of this kind may have the same images: the sample says nothing about others."""
        return (self.source == "sample") == (source == "sample")


_IN_POINTER: Final = {"key": str, "bytes": int, "sha256": str, "content_type": str}
"""What the pointer states about each product, and its type in JSON."""


def in_pointer(products: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the pointer states about the products that a manifest describes.

    Raises:
        KeyError: the manifest lacks a value.
    """
    return {name: {what: each[what] for what in _IN_POINTER} for name, each in products.items()}


def _is_described(product: Any) -> bool:
    return isinstance(product, dict) and all(
        isinstance(product.get(what), kind) for what, kind in _IN_POINTER.items()
    )


def tilejson(
    *,
    metadata: Mapping[str, Any],
    bounds: Iterable[float],
    zoom_min: int,
    zoom_max: int,
    archive_address: str,
    build: str,
) -> dict[str, Any]:
    """A TileJSON 3.0.0 document for the archive.

    Args:
        metadata: the archive's metadata.
        bounds: west, south, east, north, degrees.
        archive_address: where the archive is read from.
        build: the build's name, so that a client can tell which mosaic it shows.
    """
    return {
        "tilejson": "3.0.0",
        "name": metadata["name"],
        "description": metadata["description"],
        "attribution": metadata["attribution"],
        "version": "1.0.0",
        "scheme": "xyz",
        **tilejson_address(archive_address),
        "minzoom": zoom_min,
        "maxzoom": zoom_max,
        "bounds": [round(side, 6) for side in bounds],
        "vector_layers": metadata["vector_layers"],
        "build": build,
    }


def tilejson_address(archive_address: str) -> dict[str, Any]:
    """The part of a TileJSON that says where the archive is read from."""
    return {
        # read by MapLibre with the `pmtiles` protocol; a tile server in front has a TileJSON of its own
        "tiles": [f"pmtiles://{archive_address}/{{z}}/{{x}}/{{y}}"],
        "pmtiles": archive_address,
    }


def counts(drawn: int, set_aside: int, outside: int = 0, *, verb: str = "drawn") -> str:
    """What became of a catalogue's images, in the same words everywhere.

    Args:
        drawn: images in the mosaic.
        set_aside: images that cannot be drawn.
        outside: images outside the box that was asked for.
        verb: `to draw` if they are not drawn yet.
    """
    catalogued = drawn + set_aside + outside
    beyond = f", {outside:,} outside the test box" if outside else ""
    return f"{catalogued:,} images in the catalogue: {drawn:,} {verb}, {set_aside:,} set aside{beyond}"


def as_json(value: Mapping[str, Any]) -> bytes:
    """JSON for people and programs: indented, keys in the order given, ends with a newline."""
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()
