"""The environment and the `.env` file before they are interpreted, and misspelt names in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

from oam_mosaic_assets.errors import SettingsError

ENV_FILE: Final = ".env"
NOT_FROM_FILE: Final = f"the environment, not as in {ENV_FILE}"

CLOSE: Final = 0.8
"""Similarity of two names from which one may be the other misspelt; libpq's own are less like ours."""

_OTHERS: Final = ("AWS_", "DAGSTER_PG_", "PORT", "READ_ONLY_PORT")
"""Prefixes of the names that boto3, the deployment and scripts/ui read."""


def env_file() -> tuple[dict[str, str], list[str]]:
    """The variables in the `.env` file in the current folder, and sentences about its other lines.

    Raises:
        SettingsError: the file is there, but is no text that can be read.
    """
    try:
        text = Path(ENV_FILE).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise _unreadable(error.strerror) from None
    except UnicodeDecodeError:  # which holds the file's text, secrets included
        raise _unreadable("it is not UTF-8") from None
    if "\0" in text:
        raise _unreadable("it contains a zero byte, as UTF-16 does")
    stated: dict[str, str] = {}
    problems = []
    for each in parse_stream(StringIO(text)):
        line = f"Line {each.original.line} of the file {ENV_FILE}"
        if each.error or (each.key is not None and each.value is None):
            problems.append(f"{line} is not of the form NAME=value")
        elif each.value and "${" in each.value and "='" not in each.original.string.replace(" ", ""):
            problems.append(
                f"{line} contains `${{`: in single quotes it is taken literally; what another variable holds "
                "must be written out, as only compose would put it in"
            )
        elif each.key is not None and each.value is not None:
            stated[each.key] = each.value
    return stated, problems


def _unreadable(why: str | None) -> SettingsError:
    return SettingsError(
        f"The file {ENV_FILE} cannot be read: {why}.",
        hint="Save it as plain text in UTF-8 that this user may read, or remove it from this folder.",
    )


def places(file: Mapping[str, str], environment: Mapping[str, str], ours: Collection[str]) -> dict[str, str]:
    """Where each of our variables is set that the `.env` file sets; the environment comes first.

    Args:
        file: the variables in the file.
        environment: those that count.
        ours: the names of all settings.
    """
    stated = {name: value for name, value in file.items() if name in ours and value.strip()}
    return {name: ENV_FILE if environment[name] == value else NOT_FROM_FILE for name, value in stated.items()}


def near_misses(stated: Mapping[str, str], ours: Collection[str]) -> dict[str, str]:
    """Names that are set and nearly ours, each with the unset one of ours that may be meant."""
    is_set = {name for name, value in stated.items() if value.strip()}
    unset = [name for name in ours if name not in is_set]
    found = {}
    for name in sorted(is_set.difference(ours)):
        if not name.startswith(_OTHERS) and (meant := get_close_matches(name.upper(), unset, 1, CLOSE)):
            found[name] = meant[0]
    return found
