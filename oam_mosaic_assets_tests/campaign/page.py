"""The page that says what was injected and what came of it: docs/reliability.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from oam_mosaic_assets_tests.campaign.run import Result

BEGINNING: Final = "<!-- the table of scripts/faults -->\n"
END: Final = "<!-- its end -->\n"


def write_page(path: Path, results: Sequence[Result]) -> None:
    """Put the table into the page, between its two marks."""
    before, _, rest = path.read_text().partition(BEGINNING)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGINNING}\n{_table(results)}\n{END}{after}")


def _table(results: Sequence[Result]) -> str:
    reads, invalid = sum(each.reads for each in results), sum(each.invalid for each in results)
    failed = sum(bool(each.problems) for each in results)
    lines = [
        f"{len(results)} injections, {failed} not as they must be; {reads:,} reads, {invalid} invalid.",
        "",
        "| where | what is injected | how it ended | reads | invalid | left behind | next build |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in results:
        by = " (Dagster's run)" if each.injection.by_dagster else ""
        cells = [
            each.injection.where + by,
            each.injection.what,
            f"{each.ended.how}: {_plain(each.ended.head)}",
            f"{each.reads}",
            f"{each.invalid}",
            ", ".join(each.left) or "nothing",
            each.next_build,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _plain(head: str) -> str:
    """The message without what differs from run to run."""
    head = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{12}", "BUILD", head)
    head = re.sub(r"test-[0-9a-f-]{36}", "BUCKET", head)
    head = re.sub(r"127\.0\.0\.1:\d+", "HOST", head)
    head = re.sub(r"/[\w/.-]*mosaic-\w+/", "FOLDER/", head)
    return head if len(head) <= 150 else f"{head[:147]}…"
