"""How the chain scales with the catalogue: builds of the sample, from scratch and after 20 images changed.

    python benchmarks/scale.py COUNT [COUNT ...] [--group FOLDER] [--plot FILE.svg] [--json FILE]

Each build is one run of the job `global_mosaic` in its own process with an empty disk, from a file of items
to a folder. `MOSAIC_PRODUCTS` says what it makes. Memory is that of all processes together. `--group` names
the folder of a control group to build in, such as one with a limit, which also counts cached files:

    mkdir /sys/fs/cgroup/memory/small && echo 1500M >/sys/fs/cgroup/memory/small/memory.limit_in_bytes
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from math import nan
from pathlib import Path
from typing import Any

import incremental

CHANGED = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", type=int, nargs="+", metavar="COUNT", help="images of the sample")
    parser.add_argument("--plot", type=Path, help="draw the figures here; .svg or .png")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--group", type=Path, help="the folder of a control group to build in")
    stated = parser.parse_args()
    if stated.plot:
        importlib.import_module("matplotlib")  # if it is missing, fail before measuring
    figures = [each for count in sorted(stated.counts) for each in measured(count, stated.group)]
    show(figures)
    if stated.plot:
        plot(figures, stated.plot)
    if stated.json:
        stated.json.write_text(json.dumps(figures, indent=2) + "\n")


def measured(count: int, group: Path | None) -> Iterator[dict[str, Any]]:
    """A build of so many images from scratch, then one after some of them have moved."""
    with tempfile.TemporaryDirectory() as name:
        folder, chance = Path(name), random.Random(count)  # noqa: S311  # the same every time
        items = folder / "items.ndjson"
        environment = {
            "STAC_ITEMS": str(items),
            "MOSAIC_STORE": str(folder / "store"),
            "MAX_SET_ASIDE_SHARE": "1",  # the same few dirty rows are a larger share of a small sample
            "LOG_LEVEL": "WARNING",
        }
        moved = frozenset(chance.sample(range(count), CHANGED))
        for case, rows in (("all is new", frozenset[int]()), (f"{CHANGED} changed", moved)):
            write_sample(items, count, rows)
            home = folder / case.replace(" ", "-")
            found = incremental.measured("ours", items, home, environment, group)
            yield {"count": count, "case": case, **found}


def write_sample(path: Path, count: int, moved: frozenset[int]) -> None:
    """Write the sample's items, those in the rows `moved` a little to the east if they have a place."""
    from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue
    from oam_mosaic_assets.gateways.catalogue.source import Unreadable

    with SampleCatalogue(count).snapshot() as sample, path.open("w") as lines:
        for row, item in enumerate(sample.items()):
            if isinstance(item, Unreadable):
                lines.write(item.text + "\n")
                continue
            with suppress(TypeError, KeyError, IndexError, RecursionError):  # some are no images
                if row in moved:
                    item = incremental.moved(item)  # noqa: PLW2901
            lines.write(json.dumps(item) + "\n")


def show(figures: list[dict[str, Any]]) -> None:
    print(
        f"{'images':>10}  {'':<12}{'wall, s':>9}{'CPU, s':>9}{'ms an image':>13}{'MiB':>8}{'own MiB':>9}"
        f"{'archive, MB':>13}"
    )
    for each in figures:
        share = 1000.0 * each["wall"] / each["count"]
        memory = each["python_mib"] + each["tippecanoe_mib"]
        print(
            f"{each['count']:>10,}  {each['case']:<12}{each['wall']:>9.1f}{each['cpu']:>9.1f}{share:>13.2f}"
            f"{memory:>8.0f}{each.get('own_mib', nan):>9.0f}{each['archive'] / 1e6:>13.1f}"
        )


def plot(figures: list[dict[str, Any]], target: Path) -> None:
    """Plot wall time and memory against the number of images, one line per case."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for case, runs in itertools.groupby(
        sorted(figures, key=lambda each: each["case"]), lambda each: each["case"]
    ):
        of_case = sorted(runs, key=lambda each: each["count"])
        counts = [each["count"] / 1000 for each in of_case]
        time.plot(counts, [each["wall"] for each in of_case], marker="o", label=case)
        memory.plot(
            counts, [each["python_mib"] + each["tippecanoe_mib"] for each in of_case], marker="o", label=case
        )
    for axes, unit in ((time, "wall time, s"), (memory, "all processes, MiB")):
        axes.set(xlabel="images, thousands", ylabel=unit, ylim=(0, None), xlim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(target)


if __name__ == "__main__":
    sys.exit(main())
