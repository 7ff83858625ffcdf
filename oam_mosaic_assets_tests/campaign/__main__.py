"""The fault campaign: `scripts/faults`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oam_mosaic_assets_tests.campaign.injections import INJECTIONS
from oam_mosaic_assets_tests.campaign.page import missing_from, write_page
from oam_mosaic_assets_tests.campaign.run import SMALL_PARTS, Result, run
from oam_mosaic_assets_tests.servers.ceph import running_ceph


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # command-line output


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only five of them, as the gate does")
    parser.add_argument(
        "--only", metavar="TEXT", action="append", help="only those whose name contains TEXT; may be repeated"
    )
    parser.add_argument(
        "--missing", action="store_true", help="only those with no row in the page of --write"
    )
    parser.add_argument("--lanes", type=int, default=2, help="installations that run at the same time")
    parser.add_argument("--write", type=Path, metavar="FILE", help="update the table in this page")
    stated = parser.parse_args()
    if stated.missing and not stated.write:
        parser.error("--missing needs --write")
    if stated.lanes < 1:
        parser.error("--lanes must be at least 1")
    chosen = [each for each in INJECTIONS if not stated.short or each.short]
    for text in stated.only or ():
        if not any(text in each.name for each in chosen):
            parser.error(f"no injection has {text!r} in its name")
    if stated.only:
        chosen = [each for each in chosen if any(text in each.name for text in stated.only)]
    if stated.missing:
        chosen = missing_from(stated.write, chosen)

    def tell(number: int, result: Result) -> None:
        say(f"{number:3}/{len(chosen)}  {result.line}")
        if stated.write:
            write_page(stated.write, [result], INJECTIONS)

    with running_ceph(SMALL_PARTS) as ceph:
        results = run(ceph, chosen, lanes=stated.lanes, tell=tell)
    failed = [each for each in results if each.problems]
    reads = sum(each.reads for each in results)
    say(f"{len(results)} injections, {len(failed)} not as they must be; {reads} reads")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
