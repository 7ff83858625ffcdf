"""Types of the values in the environment: how each is parsed, and what is valid."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from oam_mosaic_assets.core.product import MOSAIC, Product, chosen

_SWITCH: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
"""A key that every store accepts (`core.key`) and that needs no escaping in an address."""

MAILBOX: Final = re.compile(r"[A-Za-z0-9_.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
"""An e-mail address as in a header, with nothing that could end the header."""


_BYTE: Final = re.compile("[0-9]{1,3}")


def _switch(value: object) -> object:
    if isinstance(value, bool):
        return value
    try:
        return _SWITCH[str(value).strip().lower()]
    except KeyError:
        raise ValueError("must be 1, true or yes, or 0, false or no") from None


def _list(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _products(value: object) -> object:
    words = _list(value)
    return (
        chosen(words) if isinstance(words, tuple) and all(isinstance(each, str) for each in words) else value
    )


def _executor(value: object) -> object:
    if not re.fullmatch(r"in_process|multiprocess|[A-Za-z_][\w.]*:[A-Za-z_]\w*", str(value), re.ASCII):
        raise ValueError("must be in_process, multiprocess, or an executor as module:name")
    return value


def _product_keys(value: object) -> object:
    words = _list(value)
    if words == value or not isinstance(words, tuple):
        return value
    keys: dict[str, str] = {}
    for each in words:
        word, equals, key = (part.strip() for part in each.partition("="))
        if not equals or not key:
            raise ValueError("must be pairs such as exact=coverage/exact.pmtiles, separated by commas")
        product = chosen([word])[-1]
        if product is MOSAIC:
            raise ValueError(f"the mosaic's own key is always {MOSAIC.name}; for more, set MOSAIC_ALIASES")
        if product.name in keys:
            raise ValueError(f"gives {word!r} two keys; keep one")
        keys[product.name] = key
    return keys


def _from_home(value: object) -> object:
    """With the home folder for `~`, as in a shell; for what is in a `.env` file nobody else would do it."""
    try:
        return Path(value).expanduser() if isinstance(value, str) else value
    except RuntimeError:
        raise ValueError("names a home folder that is not known; write it out") from None


def _not_an_address(advice: str) -> Callable[[object], object]:
    def checked(value: object) -> object:
        # as given: a `Path` turns two slashes into one, and a folder `s3:` would be created
        if re.match(r"[a-z][a-z0-9+.-]+:/", str(value), re.ASCII | re.IGNORECASE):
            raise ValueError(advice)
        return _from_home(value)

    return checked


def _limit(value: object) -> object:
    return None if isinstance(value, str) and value.lower() == "none" else value


def _a_minute_or_more(hours: float) -> float:
    if hours < 1.0 / 60.0:  # Dagster judges by the minute
        raise ValueError("must be at least 0.017, which is a minute")
    return hours


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _colour(value: object) -> object:
    words = _list(value)
    if words == value:
        return value
    if not isinstance(words, tuple) or [bool(_BYTE.fullmatch(each)) for each in words] != [True] * 3:
        raise ValueError("must be red, green and blue, such as 128,128,128")
    return tuple(map(int, words))


_FOLDER: Final = "must be a folder, not an address"
AnyPath = Annotated[Path, BeforeValidator(_from_home)]
Folder = Annotated[Path, BeforeValidator(_not_an_address(_FOLDER))]
StoreFolder = Annotated[
    Path, BeforeValidator(_not_an_address(f"{_FOLDER}; for a bucket set S3_BUCKET and S3_ENDPOINT"))
]
ItemsFile = Annotated[
    Path,
    BeforeValidator(
        _not_an_address("must be a file, not an address; download it first, or set STAC_API_URL for an API")
    ),
]
Switch = Annotated[bool, BeforeValidator(_switch)]
Words = Annotated[tuple[str, ...], BeforeValidator(_list)]
Byte = Annotated[int, Field(ge=0, le=255)]
Products = Annotated[tuple[Product, ...], BeforeValidator(_products)]
Executor = Annotated[str, BeforeValidator(_executor)]
ProductKeys = Annotated[Mapping[str, str], BeforeValidator(_product_keys)]
"""Fixed keys by the name of their product."""
TilePixels = Annotated[Literal[256, 512], BeforeValidator(_number)]
Colour = Annotated[tuple[Byte, Byte, Byte], BeforeValidator(_colour)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Limit = Annotated[float | None, Field(ge=0.0, allow_inf_nan=False), BeforeValidator(_limit)]
"""A finite number, or `none` for no limit."""
Port = Annotated[int, Field(ge=1, le=65535)]
Hours = Annotated[float, Field(le=24.0 * 365.0), AfterValidator(_a_minute_or_more)]


def is_web_address(text: str) -> bool:
    """Whether it is an http or https address with a host, whatever else it holds."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an IPv6 address, or a port that is not a number
        return False


def needs_escaping(text: str) -> bool:
    """Whether it holds a space, a control character, or one that programs take for something else."""
    return re.search(r"""[\s\x00-\x1f\x7f"'`$\\]""", text) is not None


def is_plain_address(text: str) -> bool:
    """Whether it is a web address with no password and nothing that needs escaping."""
    return re.fullmatch(r"https?://[A-Za-z0-9._~:/?!&()*+,=%-]+", text) is not None and is_web_address(text)


def in_brackets(address: str) -> str:
    """An IP address as it is written before a port: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def is_mail_server(text: str) -> bool:
    """Whether it is the address of a mail server, with both user and password or neither."""
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in {"smtp", "smtps"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    has_more = parts.path not in {"", "/"} or parts.query or parts.fragment
    return is_whole and not has_more and bool(parts.username) == bool(parts.password)
