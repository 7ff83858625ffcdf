"""`oam-mosaic doctor`: one line for each thing a build needs, and what to do if it is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from oam_mosaic_assets.cli.light import standard_output
from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.gateways.diagnosis.checkup import examine
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State, exit_code
from oam_mosaic_assets.settings import Settings

_SIGNS: Final = {
    State.OK: ("✓", "green"),
    State.WARNING: ("!", "yellow"),
    State.WRONG: ("✗", "bold red"),
    State.UNREACHABLE: ("✗", "bold red"),
    State.UNTRIED: ("-", "dim"),
}
_SUBJECT_WIDTH: Final = 20


def show_findings(*, as_json: bool) -> int:
    """Examine everything and print the findings; returns the exit code that they add up to."""
    with standard_output() as output:
        console = Console(file=output, highlight=False, soft_wrap=not output.isatty(), markup=False)
        if as_json:
            findings = list(_findings())
            code = exit_code(findings)
            stated = {"exit_code": code, "findings": [asdict(each) for each in findings]}
            output.write(json.dumps(stated, ensure_ascii=False, indent=2) + "\n")
            return code
        findings = []
        waiting = console.status("checking") if console.is_terminal else nullcontext()
        with waiting:
            for each in _findings():
                findings.append(each)
                console.print(_row(each) if console.is_terminal else _line(each))
        code = exit_code(findings)
        console.print(f"\n{_summary(findings)}")
    return code


def _findings() -> Iterator[Finding]:
    try:
        settings = Settings.read()
    except SettingsError as error:
        for problem in error.problems or [error.message.rstrip(".")]:
            yield Finding("settings", State.WRONG, problem, error.hint)
        return
    yield from examine(settings)
    if settings.build_executor != "in_process":
        yield _examine_executor(settings.build_executor)


def _examine_executor(name: str) -> Finding:
    from oam_mosaic_assets.automation.executors import executor_of  # noqa: PLC0415  # Dagster is needed only here

    try:
        executor_of(name, 1)
    except SettingsError as error:
        return Finding.of("executor", error)
    return Finding("executor", State.OK, f"{name}, for runs of the daemon and the UI")


def _row(finding: Finding) -> Table:
    sign, style = _SIGNS[finding.state]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=1)
    row.add_column(width=_SUBJECT_WIDTH, no_wrap=True)
    row.add_column(ratio=1, overflow="fold")
    text = Text(finding.text, style="dim" if finding.state is State.UNTRIED else "")
    if finding.hint:
        text.append(f"\n→ {finding.hint}", style=style)
    row.add_row(Text(sign, style=style), finding.subject, text)
    return row


def _line(finding: Finding) -> str:
    text = " ".join(finding.text.split())
    hint = f" What to do: {finding.hint}" if finding.hint else ""
    end = "" if text.endswith(".") or not hint else "."
    return f"{finding.state:<11}  {finding.subject:<{_SUBJECT_WIDTH}}  {text}{end}{hint}"


def _summary(findings: Sequence[Finding]) -> str:
    number = Counter(each.state for each in findings)
    parts = []
    if number[State.WRONG]:
        parts.append(f"{_counted(number[State.WRONG], 'problem')} to fix before a build")
    if number[State.UNREACHABLE]:
        parts.append(f"{_counted(number[State.UNREACHABLE], 'thing')} cannot be reached right now")
    if not parts:
        parts.append("Nothing stands in the way of a build")
    if number[State.WARNING]:
        parts.append(f"{_counted(number[State.WARNING], 'warning')} to read")
    return f"{'; '.join(parts)}."


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
