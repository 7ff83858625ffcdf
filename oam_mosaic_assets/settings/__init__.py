"""The settings from the environment, read once and checked as a whole.

All problems are named at once, each with its variable and value; a secret is never shown. Fields are named
like their variables, in lower case; the README's table lists them all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from oam_mosaic_assets.core.imagery.recipe import WIDEST_FEATHER, Kind, Order
from oam_mosaic_assets.core.product import BY_DEFAULT
from oam_mosaic_assets.core.release import SAMPLE, Keys, Pointer
from oam_mosaic_assets.core.tiling import DEEPEST, SHALLOWEST
from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.settings.agreement import TEST, disagreements
from oam_mosaic_assets.settings.environment import ENV_FILE, env_file, near_misses, places
from oam_mosaic_assets.settings.problems import misspelt, problems_in
from oam_mosaic_assets.settings.values import (
    AnyPath,
    Colour,
    Executor,
    Folder,
    Hours,
    ItemsFile,
    Limit,
    Port,
    ProductKeys,
    Products,
    Share,
    StoreFolder,
    Switch,
    TilePixels,
    Words,
    in_brackets,
)

TEST_BOX: Final = (-20.0, 0.0, 10.0, 30.0)
"""West, south, east, north in degrees: `TEST_MODE` builds only with images that touch it."""

SourceKind = Literal["pgstac", "stac_api", "items_file", "sample"]

SOURCES: Final[Mapping[str, str]] = {
    "pgstac": "a pgSTAC database",
    "stac_api": "a STAC API",
    "items_file": "a file of items",
    "sample": "the made-up sample",
}
"""What each is called in messages."""


class Settings(BaseModel):
    """The settings of one process. Frozen; `Settings.read()` makes them from the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # the catalogue
    pg_dsn: SecretStr | None = None
    pghost: str | None = None
    pgport: Port = 5432
    pguser: str | None = None
    pgpassword: SecretStr | None = None
    pgdatabase: str = "eoapi"
    pg_statement_timeout: Annotated[int, Field(ge=1, le=86_400)] = 600
    stac_api_url: Annotated[str | None, Field(repr=False, exclude=True)] = None  # may hold a password
    stac_items: ItemsFile | None = None
    collection: Annotated[str, Field(min_length=1)] = "openaerialmap"
    test_mode: Switch = False

    # the archive
    zoom_min: Annotated[int, Field(ge=0, le=DEEPEST)] = 0
    zoom_max: Annotated[int, Field(ge=SHALLOWEST, le=DEEPEST)] = 15
    tippecanoe: AnyPath | None = None
    build_processes: Annotated[int, Field(ge=0, le=256)] = 0
    build_parts: Annotated[int, Field(ge=0, le=256)] = 0
    build_executor: Executor = "in_process"
    mosaic_products: Products = BY_DEFAULT

    # the coverage as pictures
    coverage_colour: Colour = (128, 128, 128)
    coverage_opacity: Annotated[float, Field(gt=0.0, le=1.0)] = 0.4
    coverage_tile_pixels: TilePixels = 256

    # the imagery
    imagery_order: Order = "finest"
    imagery_kind: Kind = "hints"
    imagery_feather: Annotated[int, Field(ge=0, le=WIDEST_FEATHER)] = 0
    imagery_tiles_url: str | None = None
    imagery_private_hosts: Words = ()
    imagery_s3_endpoint: str = "https://s3.amazonaws.com"
    imagery_processes: Annotated[int, Field(ge=1, le=64)] = 2
    imagery_per_host: Annotated[int, Field(ge=1, le=64)] = 4
    imagery_budget_gb: Limit = None
    imagery_budget_hours: Limit = 4.0  # Dagster and Kubernetes end a run after six

    # the store
    mosaic_publish: Literal["s3", "folder"] | None = None
    s3_bucket: str = "oin-hotosm-temp"
    s3_region: str = "us-east-1"
    s3_endpoint: str = "s3.amazonaws.com"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_public_url: str | None = None
    mosaic_store: StoreFolder = Path("data/store")
    mosaic_scratch: Folder = Path("data/scratch")
    mosaic_prefix: str = "mosaic/"
    mosaic_aliases: Words = ()
    mosaic_keys: ProductKeys = Field(default_factory=dict)
    retain_builds: Annotated[int, Field(ge=1)] = 7
    retain_days: Annotated[float, Field(ge=0.0, le=36_500.0)] = 30.0

    # the guards, the schedule, the log
    max_set_aside_share: Share = 0.02
    max_shrink_share: Share = 0.10
    mosaic_cron: str = "0 3 * * *"
    follow_catalogue: bool = False
    fresh_warn_hours: Hours = 25.0
    fresh_fail_hours: Hours = 36.0
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(lambda v: str(v).upper())
    ] = "INFO"
    dagster_home: Folder = Path("data/dagster")

    # the tile server
    martin: AnyPath | None = None
    nginx: AnyPath | None = None
    titiler_url: str = (
        "https://api.imagery.hotosm.org/raster/collections/openaerialmap/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
        "?assets=visual&nodata=0"
    )
    serve_raster: Literal["coverage", "imagery"] = "coverage"
    serve_address: str = "127.0.0.1"
    serve_vector_port: Port = 3004
    serve_raster_port: Port = 8084
    serve_viewer_port: Port = 8085
    serve_vector_url: str | None = None
    serve_raster_url: str | None = None
    serve_viewer_url: str | None = None
    serve_viewer: AnyPath = Path("viewer/dist")
    serve_poll_seconds: Annotated[float, Field(ge=0.1, le=3600.0)] = 10.0
    serve_cache_mb: Annotated[int, Field(ge=16)] = 256
    stac_item_url: str = "https://api.imagery.hotosm.org/stac/collections/openaerialmap/items/{id}"
    preview_url: str = (
        "https://api.imagery.hotosm.org/raster/collections/openaerialmap/items/{id}/preview.png"
    )

    # the alerts
    alert_webhook_url: SecretStr | None = None
    alert_slack_url: SecretStr | None = None
    alert_smtp_url: SecretStr | None = None
    alert_email_from: str | None = None
    alert_email_to: Words = ()
    alert_ui_url: str | None = None

    _near_misses: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _places: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the environment, or the one given.

        A `.env` file in the current folder fills in what the environment leaves out, in the environment
        itself, where libpq, boto3 and Dagster look for their own variables. A variable that is set to nothing
        counts as not set.

        Raises:
            SettingsError: names every problem.
        """
        ours = [name.upper() for name in cls.model_fields]
        file: Mapping[str, str] = {}
        problems: list[str] = []
        if environment is None:
            file, problems = env_file()
            environment = {**file, **os.environ}
        where = places(file, environment, ours)
        nearly = near_misses(environment, ours)
        nearly_in_file = {name: nearly.pop(name) for name in [*nearly] if name in file}
        problems += misspelt(nearly_in_file, f" in {ENV_FILE}")
        stated = {
            name: value for name in cls.model_fields if (value := environment.get(name.upper(), "").strip())
        }
        try:
            settings = cls.model_validate(stated)
        except ValidationError as error:
            problems += problems_in(error, stated, where)
            wrong = {each["loc"][0] for each in error.errors() if each["loc"]}
            try:  # conflicts among those that are valid on their own
                cls.model_validate({name: value for name, value in stated.items() if name not in wrong})
            except ValidationError as also:
                found = problems_in(also, stated, where)
                problems += [problem for problem in found if problem not in problems]
        else:
            if not problems:
                for name, value in file.items():
                    os.environ.setdefault(name, value)
                settings._places, settings._near_misses = where, nearly
                return settings
        raise SettingsError(
            "The settings are wrong:",
            problems=[*problems, *misspelt(nearly)],
            hint="Correct the environment or the .env file and run again; the README explains each setting.",
        )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if problems := disagreements(self):
            raise ValueError("\n".join(problems))
        return self

    @property
    def places(self) -> Mapping[str, str]:
        """Where the variables are set that a `.env` file in the current folder names."""
        return self._places

    @property
    def serve_ports(self) -> tuple[int, int, int]:
        """The ports of vector tiles, raster tiles, and the viewer."""
        return self.serve_vector_port, self.serve_raster_port, self.serve_viewer_port

    @property
    def serve_origins(self) -> tuple[str, str, str]:
        """Where these ports answer; on this machine, if they do at every address."""
        everywhere = ip_address(self.serve_address).is_unspecified
        host = "127.0.0.1" if everywhere else in_brackets(self.serve_address)
        vector, raster, viewer = (f"http://{host}:{port}" for port in self.serve_ports)
        return vector, raster, viewer

    @property
    def names_postgres(self) -> bool:
        """Whether a database is meant. PGUSER, PGPORT and PGDATABASE do not say: many shells set them."""
        return not (self.pg_dsn is None and self.pghost is None and self.pgpassword is None)

    @property
    def names_s3(self) -> bool:
        """Whether a bucket or its server is named."""
        return bool({"s3_bucket", "s3_endpoint"} & self.model_fields_set)

    @property
    def prefix(self) -> str:
        """The folder of the store for everything but the fixed keys, with a trailing slash."""
        return f"{self.mosaic_prefix.removesuffix('/')}/"

    @property
    def source(self) -> SourceKind:
        """Where the images are read from."""
        if self.names_postgres:
            return "pgstac"
        if self.stac_api_url is not None:
            return "stac_api"
        return "sample" if self.stac_items is None else "items_file"

    @property
    def publishes_to_s3(self) -> bool:
        """Whether someone asked for S3: the two access keys alone publish nothing there."""
        return self.mosaic_publish == "s3" or (self.mosaic_publish is None and self.names_s3)

    @property
    def sample_goes_to_s3(self) -> bool:
        """Whether the place is the sample's on S3, as no source is set."""
        return self.publishes_to_s3 and self.source == "sample"

    @property
    def endpoint_url(self) -> str:
        """The S3 endpoint with its scheme: https unless it names another."""
        return self.s3_endpoint if "://" in self.s3_endpoint else f"https://{self.s3_endpoint}"

    @property
    def keys(self) -> Keys:
        """The keys in the store. Neither test mode nor, on S3, the sample writes a public fixed key.

        Test builds have a place of their own in a folder store too, so that guards compare like with like.
        """
        keys = Keys(
            aliases=self.mosaic_aliases,
            prefix=self.prefix,
            products=self.mosaic_products,
            named=self.mosaic_keys,
        )
        if self.test_mode:
            keys = keys.below(f"{TEST}/")
        if self.sample_goes_to_s3:
            keys = keys.below(f"{SAMPLE}/")
        return keys

    def replaces(self, public: Pointer | None) -> list[str]:
        """A warning if builds read another source than the public one did: a variable may be forgotten."""
        if public is None or public.source == self.source:
            return []
        read_from, stated = (SOURCES.get(each, each) for each in (public.source, self.source))
        built = f"The public mosaic was built from {read_from}, but the settings name {stated}"
        unguarded = "" if public.is_comparable(self.source) else ", however few images it has then"
        return [f"{built}: the next build replaces it{unguarded}."]

    def remarks(self) -> list[str]:
        """Effects of these settings that may come as a surprise."""
        remarks = misspelt(self._near_misses)
        if self.s3_access_key is not None and not self.publishes_to_s3:
            remarks.append(
                "S3 keys are set, but not S3_BUCKET, S3_ENDPOINT or MOSAIC_PUBLISH=s3: nothing goes to S3."
            )
        if self.s3_public_url is not None and not self.publishes_to_s3:
            remarks.append("S3_PUBLIC_URL is set, but has no effect: nothing goes to S3.")
        if self.follow_catalogue and self.source != "pgstac":
            remarks.append(
                "FOLLOW_CATALOGUE is on, but only a pgSTAC database can tell cheaply whether anything "
                "changed: builds start on schedule alone."
            )
        if self.sample_goes_to_s3:
            remarks.append(
                "No source is set: the sample goes to S3 under `sample/`, never to the public keys."
            )
        if self.build_parts > 1 and self.build_executor == "in_process":
            remarks.append(
                "BUILD_PARTS is set, but not BUILD_EXECUTOR: runs of the daemon and the UI make the parts "
                "one after another; `oam-mosaic build` does not split the tiling."
            )
        stated = self.serve_vector_url or self.serve_raster_url or self.serve_viewer_url
        if ip_address(self.serve_address).is_unspecified and stated is None:
            remarks.append(
                f"SERVE_ADDRESS is {self.serve_address}, but SERVE_VECTOR_URL, SERVE_RASTER_URL and "
                "SERVE_VIEWER_URL are not set: maps on other machines are told to ask 127.0.0.1."
            )
        if self.test_mode:
            remarks.append(
                f"TEST_MODE is on: only images that touch the box {TEST_BOX} are drawn, and the build goes "
                "under `test/`, never to the public keys."
            )
        return remarks
