"""`oam-mosaic imagery`: reads the images of the public build on this machine, partition by partition."""

from __future__ import annotations

from oam_mosaic_assets.cli.releases import releases_of, say
from oam_mosaic_assets.core.product import IMAGERY
from oam_mosaic_assets.errors import CatalogueRefused, SettingsError
from oam_mosaic_assets.gateways.imagery_mosaic import ByPartition
from oam_mosaic_assets.gateways.scratch_folder import folder_in_use, leaving_no_folder
from oam_mosaic_assets.settings import Settings


def partitions(named: list[str], share: tuple[int, int]) -> list[str]:
    """Partitions of the public build, in their order on the map.

    Args:
        named: the partitions wanted, in this order; empty for all.
        share: (N, M) for share N, counted from 1, of M equal ones.

    Raises:
        SettingsError: imagery is not among the products, or a name is not that of a partition with images.
        CatalogueRefused: nothing is public.
    """
    settings = Settings.read()
    if IMAGERY not in settings.keys.products:
        words = ",".join(each.word for each in (*settings.mosaic_products, IMAGERY))
        raise SettingsError(
            "Imagery is off by default, and MOSAIC_PRODUCTS does not name it.",
            hint=f"Set MOSAIC_PRODUCTS={words}, here and for the builds.",
        )
    releases = releases_of(settings)
    current = releases.current()
    with leaving_no_folder(settings.mosaic_scratch), folder_in_use(settings.mosaic_scratch) as folder:
        footprints = folder / "footprints.parquet"
        if not current or not releases.store.get_file(releases.keys.footprints(current[0].build), footprints):
            raise CatalogueRefused(
                f"There is no public build in {releases.store.origin} whose images could be read.",
                hint="Publish one: `oam-mosaic build`.",
            )
        with ByPartition(footprints, folder) as images:
            found = [each.partition for each in images.tiles()]
    if unknown := sorted(set(named) - set(found)):
        raise SettingsError(
            f"The public build has no images in {', '.join(unknown)}.",
            hint="`oam-mosaic imagery --list` lists the zoom 6 tiles that contain images.",
        )
    which, of = share
    return (named or found)[which - 1 :: of]


def list_partitions(named: list[str], share: tuple[int, int]) -> int:
    """Print the names of the partitions."""
    for each in partitions(named, share):
        print(each)  # noqa: T201
    return 0


def read_partitions(named: list[str], share: tuple[int, int]) -> int:
    """Read the partitions one after another, each in its own run; one that fails does not stop the others.

    Returns:
        0, or the exit code of the last one that failed.
    """
    from oam_mosaic_assets.cli.build import run_job  # noqa: PLC0415  # the list needs no Dagster

    code = 0
    chosen = partitions(named, share)
    if not chosen:
        say(f"Nothing to do: share {share[0]} of {share[1]} has no partition, as there are fewer of them.")
    for number, each in enumerate(chosen, 1):
        say(f"Partition {each}, {number} of {len(chosen)}")
        code = run_job("imagery_partitions", partition=each) or code
    return code
