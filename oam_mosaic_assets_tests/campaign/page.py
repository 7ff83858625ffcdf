"""The page that lists what was injected and what came of it: docs/reliability.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from oam_mosaic_assets_tests.campaign.injection import Injection
from oam_mosaic_assets_tests.campaign.run import Result

BEGINNING: Final = "<!-- the table of scripts/faults -->\n"
END: Final = "<!-- its end -->\n"

READS, INVALID = 3, 4
"""Column indices in the table."""


def write_page(path: Path, results: Sequence[Result], order: Sequence[Injection]) -> None:
    """Update the table between the page's two markers; rows of injections not run this time stay.

    Args:
        order: all injections, in order; any other rows are dropped.
    """
    before, rows, after = _read(path)
    rows |= {_place(each.injection): _row(each) for each in results}
    chosen = [rows[_place(each)] for each in order if _place(each) in rows]
    path.write_text(f"{before}{BEGINNING}\n{_table(chosen)}\n{END}{after}")


def missing_from(path: Path, injections: Sequence[Injection]) -> list[Injection]:
    """The injections that have no row in the page."""
    _, rows, _ = _read(path)
    return [each for each in injections if _place(each) not in rows]


def _read(path: Path) -> tuple[str, dict[tuple[str, str], list[str]], str]:
    """The text before the table, its rows keyed by their first two cells, and the text after it."""
    before, _, rest = path.read_text().partition(BEGINNING)
    there, _, after = rest.partition(END)
    found = [_cells(line) for line in there.splitlines() if line.startswith("| ")][2:]
    return before, {(cells[0], cells[1]): cells for cells in found}, after


def _table(rows: Sequence[Sequence[str]]) -> str:
    reads, invalid = (sum(int(row[column]) for row in rows) for column in (READS, INVALID))
    failed = sum(row[-1] != "yes" for row in rows)
    head = [
        f"{len(rows)} injections, {failed} not as they must be; {reads:,} reads, {invalid} invalid.",
        "",
        "| where | what is injected | how it ended | reads | invalid | left | next build | as it must be |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _place(injection: Injection) -> tuple[str, str]:
    return injection.where + " (Dagster's run)" * injection.by_dagster, injection.what


def _row(result: Result) -> list[str]:
    cells = [
        *_place(result.injection),
        f"{result.ended.how}: {_plain(result.ended.head)}",
        f"{result.reads}",
        f"{result.invalid}",
        ", ".join(result.left) or "nothing",
        result.next_build,
        "no" if result.problems else "yes",
    ]
    return [cell.replace("|", "/") for cell in cells]


def _cells(line: str) -> list[str]:
    return line.removeprefix("| ").removesuffix(" |").split(" | ")


def _plain(head: str) -> str:
    """The message, shortened, with placeholders for what differs from run to run."""
    head = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{12}", "BUILD", head)
    head = re.sub(r"test-[0-9a-f-]{36}", "BUCKET", head)
    head = re.sub(r"127\.0\.0\.1:\d+", "HOST", head)
    head = re.sub(r"/[\w/.-]*mosaic-\w+/", "FOLDER/", head)
    return head if len(head) <= 150 else f"{head[:147]}…"
