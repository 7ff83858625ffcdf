"""What is wrong with the settings, in sentences that hold no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

SECRET: Final = frozenset(
    {
        "pg_dsn",
        "pgpassword",
        "s3_access_key",
        "s3_secret_key",
        "stac_api_url",
        "alert_webhook_url",
        "alert_slack_url",
        "alert_smtp_url",
    }
)
"""Settings that are, or may hold, a secret."""

QUOTED: Final = 60
"""How many characters of a value a message quotes."""

_SAID: Final = {
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
}
"""What is wrong, in plainer words than pydantic's, by its type of error."""


def problems_in(error: ValidationError, stated: Mapping[str, str], places: Mapping[str, str]) -> list[str]:
    """Sentences about what is wrong, each with the value of the variable it begins with.

    Args:
        stated: the values, by the settings' names in lower case.
        places: see `environment.places`.
    """
    problems = []
    for each in error.errors():
        said = _SAID.get(each["type"])
        message = said.format(**each.get("ctx", {})) if said else each["msg"].removeprefix("Value error, ")
        if each["loc"]:
            problems.append(f"{str(each['loc'][0]).upper()}: {message[0].lower()}{message[1:]}")
        else:
            problems += message.splitlines()
    return [f"{problem}{_told(problem, stated, places)}" for problem in problems]


def misspelt(names: Mapping[str, str], place: str = "") -> list[str]:
    """Sentences about the result of `environment.near_misses`."""
    return [
        f"{name} is set{place}, but is not a setting; {meant}, which is not set, may be meant."
        for name, meant in names.items()
    ]


def _told(problem: str, stated: Mapping[str, str], places: Mapping[str, str]) -> str:
    """The value of the variable, for its owner to recognise, and where to change those that are named."""
    named = dict.fromkeys(re.findall("[A-Z][A-Z0-9_]+", problem))
    told = [f"{name} is set in {places[name]}" for name in named if name in places]
    told = [*_got(problem, stated), *told]
    return f" ({'; '.join(told)})" if told else ""


def _got(problem: str, stated: Mapping[str, str]) -> list[str]:
    """The value; nothing if it is, or may hold, a secret."""
    name = problem.split(maxsplit=1)[0].rstrip(":").lower()
    value = stated.get(name, "")
    secrets = [stated[each] for each in SECRET if each in stated]
    if not value or name in SECRET or "@" in value or any(each in value for each in secrets):
        return []
    if f"({value})" in problem or repr(value) in problem:
        return []
    return [f"got {value[:QUOTED]!r}{'…' if len(value) > QUOTED else ''}"]
