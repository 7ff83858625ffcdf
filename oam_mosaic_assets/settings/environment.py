"""The environment and the `.env` file before they are interpreted, and misspelt names in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

from oam_mosaic_assets.errors import SettingsError

CLOSE: Final = 0.8
"""Similarity of two names from which one may be the other misspelt; libpq's own are less like ours."""

_OTHERS: Final = ("AWS_", "DAGSTER_PG_", "PORT", "READ_ONLY_PORT")
"""Prefixes of the names that boto3, the deployment and scripts/ui read."""


def env_file(ours: Collection[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables in the `.env` file in the current folder; none if there is no file.

    Args:
        ours: the names of all settings.
        environment: what takes precedence over the file.

    Raises:
        SettingsError: the file cannot be read in full, or a name in it looks like one of ours, mistyped.
    """
    stated: dict[str, str] = {}
    try:
        with suppress(FileNotFoundError), Path(".env").open(encoding="utf-8") as lines:
            for each in parse_stream(lines):
                if each.error or (each.key is not None and each.value is None):
                    raise SettingsError(
                        f"Line {each.original.line} of the file .env is not of the form NAME=value.",
                        hint="Correct it: a setting that cannot be read would silently count as not set.",
                    )
                if each.value and "${" in each.value and "='" not in each.original.string.replace(" ", ""):
                    raise SettingsError(
                        f"Line {each.original.line} of the file .env contains `${{`.",
                        hint="If it is meant literally, put the value in single quotes. If it stands for "
                        "another variable, write out that value: only compose would put it in.",
                    )
                if each.key is not None and each.value is not None:
                    stated[each.key] = each.value
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"The file .env cannot be read: {reason}.", hint="Fix it, or remove it from this folder."
        ) from None  # the error holds the file's text, secrets included
    set_elsewhere = {name: value for name, value in environment.items() if name in ours}
    if mistyped := near_misses({**set_elsewhere, **stated}, ours):
        raise SettingsError(
            "The file .env contains names that are not settings:",
            problems=[f"{name}: {meant} may be meant" for name, meant in mistyped.items()],
            hint="Correct or remove them: they would be silently ignored.",
        )
    return stated


def near_misses(stated: Mapping[str, str], ours: Collection[str]) -> dict[str, str]:
    """Names that are set and nearly ours, each with the unset one of ours that may be meant."""
    is_set = {name for name, value in stated.items() if value.strip()}
    unset = [name for name in ours if name not in is_set]
    found = {}
    for name in sorted(is_set.difference(ours)):
        if not name.startswith(_OTHERS) and (meant := get_close_matches(name.upper(), unset, 1, CLOSE)):
            found[name] = meant[0]
    return found
