"""What a build costs when everything is new, when some of the catalogue changed, and when nothing did.

    python benchmarks/incremental.py ITEMS.ndjson.gz [--repeat N] [--plot FILE.svg] [--json FILE]

The catalogue, the servers and the plain sequence are those of `pipeline.py`. Each case changes the
catalogue, then runs the job `global_mosaic` once, in its own process with an empty disk, publishing to the
same bucket as the run before. Every case is given as a share of the plain sequence's wall time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pipeline

Item = dict[str, Any]

SHARES = {"all is new": 0.75, "1 % changed": 0.25, "20 in three places": 0.10, "nothing changed": 0.02}
"""The target for each case, as a share of the plain sequence's wall time."""

STAGES_SHOWN = 8
"""How many stages the plot shows; it lumps the others together."""

MOVED = 0.0005
"""How far a changed image moves, in degrees."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=Path, help="newline-delimited STAC items, plain or gzip")
    parser.add_argument("--repeat", type=int, default=1, help="rounds; medians are compared")
    parser.add_argument("--plot", type=Path, help="draw the figures here; .svg or .png")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    stated = parser.parse_args()
    if stated.plot:
        importlib.import_module("matplotlib")  # if it is missing, fail before measuring
    figures = compare(stated.items, stated.repeat)
    show(figures)
    if stated.plot:
        plot(figures, stated.plot)
    if stated.json:
        stated.json.write_text(json.dumps(figures, indent=2) + "\n")


def compare(items: Path, repeat: int) -> dict[str, list[dict[str, Any]]]:
    from oam_mosaic_assets_tests.servers.buckets import new_bucket
    from oam_mosaic_assets_tests.servers.ceph import running_ceph
    from oam_mosaic_assets_tests.servers.pgstac_items import load_items
    from oam_mosaic_assets_tests.servers.postgres import PRODUCTION_PGSTAC, running_postgres

    catalogue = list(pipeline.read(items))
    figures: dict[str, list[dict[str, Any]]] = {"plain": [], **{name: [] for name in SHARES}}
    with running_postgres() as postgres, running_ceph() as s3, tempfile.TemporaryDirectory() as folder:
        for number in range(repeat):
            database = postgres.create_pgstac(f"round_{number}", PRODUCTION_PGSTAC)
            load_items(database, catalogue)
            environment = {
                "PG_DSN": database.dsn,
                "S3_ENDPOINT": s3.endpoint,
                "S3_BUCKET": new_bucket(s3),
                "S3_ACCESS_KEY": s3.access_key,
                "S3_SECRET_KEY": s3.secret_key,
                "LOG_LEVEL": "WARNING",
            }
            figures["plain"].append(measured("plain", items, Path(folder, f"plain-{number}"), environment))
            for name, change in CHANGES.items():
                load_items(database, change(catalogue, random.Random(number)))  # noqa: S311  # the same every time
                home = Path(folder, f"{name.replace(' ', '-')}-{number}")
                figures[name].append(measured("ours", items, home, environment))
    return figures


def measured(
    name: str, items: Path, home: Path, environment: Mapping[str, str], group: Path | None = None
) -> dict[str, Any]:
    """One run, as on a worker freshly started for it; `group` as for `pipeline.measure`."""
    (home / "dagster").mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "dagster.yaml", home / "dagster")
    places = {"MOSAIC_SCRATCH": "scratch", "DAGSTER_HOME": "dagster", "TMPDIR": ""}
    folders = {variable: str(home / folder) for variable, folder in places.items()}
    # as in the image, where all is compiled: else each process would compile all of Dagster again
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = pipeline.measure(name, items, home, {**inherited, **environment, **folders}, group)
    print(f"{home.name}: {found['wall']:.1f} s, CPU {found['cpu']:.1f} s", file=sys.stderr, flush=True)
    return found


def spread(catalogue: list[Item], chance: random.Random) -> Iterator[Item]:
    """A random hundredth of the images, moved."""
    return map(moved, chance.sample(catalogue, len(catalogue) // 100))


def together(catalogue: list[Item], chance: random.Random) -> Iterator[Item]:
    """Twenty images in three places, moved: neighbours in the catalogue."""
    starts = sorted(chance.sample(range(0, len(catalogue) - 7, 7), 3))
    return map(moved, [catalogue[start + number] for start in starts for number in range(7)][:20])


def nothing(_catalogue: list[Item], _chance: random.Random) -> Iterator[Item]:
    return iter(())


CHANGES: dict[str, Callable[[list[Item], random.Random], Iterator[Item]]] = dict(
    zip(SHARES, (nothing, spread, together, nothing), strict=True)
)


def moved(item: Item) -> Item:
    """The item, a little to the east."""

    def shifted(coordinates: Any) -> Any:
        if isinstance(coordinates[0], (int, float)):
            return [coordinates[0] + MOVED, *coordinates[1:]]
        return [shifted(each) for each in coordinates]

    return item | {"geometry": item["geometry"] | {"coordinates": shifted(item["geometry"]["coordinates"])}}


def show(figures: dict[str, list[dict[str, Any]]]) -> None:
    plain = median(each["wall"] for each in figures["plain"])
    print(f"{'':<22}{'wall, s':>9}{'ratio':>8}{'asked':>8}{'CPU, s':>9}{'MiB':>7}  stages, s")
    for name, runs in figures.items():
        wall, cpu = (median(each[what] for each in runs) for what in ("wall", "cpu"))
        memory = max(each["python_mib"] + each["tippecanoe_mib"] for each in runs)
        spent = typical(runs).get("seconds", {})
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in spent.items())
        asked = f"{SHARES[name]:.2f}" if name in SHARES else ""
        print(f"{name:<22}{wall:>9.1f}{wall / plain:>8.2f}{asked:>8}{cpu:>9.1f}{memory:>7.0f}  {stages}")


def typical(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the median wall time."""
    return sorted(runs, key=lambda each: each["wall"])[len(runs) // 2]


def plot(figures: dict[str, list[dict[str, Any]]], target: Path) -> None:
    """Plot each case as a bar of its stages, in shares of the plain sequence's wall time, with its target."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    plain = median(each["wall"] for each in figures["plain"])
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    typically = {name: typical(figures[name]) for name in SHARES}
    spent = {name: run.get("seconds", {}) for name, run in typically.items()}
    all_stages = Counter[str]()
    for stages in spent.values():
        all_stages.update(stages)
    shown = [stage for stage, _ in all_stages.most_common(STAGES_SHOWN)]
    for name, asked in SHARES.items():
        left = 0.0
        for number, stage in enumerate(shown):
            seconds = spent[name].get(stage, 0.0)
            axes.barh(name, seconds / plain, left=left / plain, color=f"C{number}")
            left += seconds
        rest = max(0.0, typically[name]["wall"] - left)
        axes.barh(name, rest / plain, left=left / plain, color="lightgray")
        axes.plot([asked], [name], marker="|", color="black", markersize=24, markeredgewidth=2)
    axes.invert_yaxis()
    axes.set(xlabel="share of the plain sequence's wall time; the black marks are what is asked")
    labels = [(f"C{number}", stage) for number, stage in enumerate(shown)] + [("lightgray", "all else")]
    axes.legend(handles=[Patch(color=colour, label=label) for colour, label in labels], fontsize="small")
    figure.savefig(target)


if __name__ == "__main__":
    sys.exit(main())
