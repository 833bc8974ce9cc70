"""Options of a reward that asks an endpoint on the network, and what an address may look like.

Shared by the rewards `http` and `judge`. Looks no name up, opens nothing, reads no token. A value that may hold a
secret is hidden before pydantic sees it, so that no report of a refused value shows it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

HIDDEN = "<hidden>"
"""What stands in messages where a secret may have been."""

_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
_SECRET_FIELD = re.compile(r"api.?key|secret|passw|authorization|credential", re.IGNORECASE)
_SECRET = re.compile(r"key|token|secret|passw|auth|sig|credential", re.IGNORECASE)


class EndpointOptions(BaseModel):
    """Where an endpoint is and how patient to be with it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    allow_insecure: bool = Field(default=False, description="allow http to another machine: images and token in clear")
    url: str = Field(description="https address; http only to this machine, or with allow_insecure")
    token_env: str = Field(
        default="", description="NAME of the environment variable that holds the bearer token; '' = no token"
    )
    trust_env: bool = Field(default=False, description="take proxies and certificates from HTTPS_PROXY and the like")
    timeout: float = Field(default=30.0, gt=0, le=3600, description="seconds that one attempt may take")
    deadline: float = Field(
        default=90.0, gt=0, le=3600, description="seconds that a request may take, all its attempts and waits together"
    )
    attempts: int = Field(default=3, ge=1, le=20, description="attempts a request; 1 = no retry")
    backoff: float = Field(default=1.0, ge=0, le=60, description="seconds before the second attempt; then doubled")
    max_in_flight: int = Field(default=4, ge=1, le=64, description="requests open at once")
    breaker_failures: int = Field(default=5, ge=1, description="failed requests in a row after which nobody asks")
    breaker_reset: float = Field(default=60.0, gt=0, description="seconds until one request is tried again")
    max_reply_bytes: int = Field(default=1 << 20, ge=1024, description="a longer reply is malformed")
    ready_seconds: float = Field(default=10.0, gt=0, le=600, description="seconds to answer before a run or a swap")

    @model_validator(mode="before")
    @classmethod
    def _hide(cls, given: Any) -> Any:
        """Put HIDDEN in place of what may be a secret: whoever reports a refused value shows it."""
        if not isinstance(given, Mapping):
            return given
        return {key: _shown(key, value) if key in cls.model_fields else HIDDEN for key, value in given.items()}

    @field_validator("token_env")
    @classmethod
    def _name_only(cls, name: str) -> str:
        if name and not _NAME.fullmatch(name):
            raise ValueError("the NAME of an environment variable (A-Z, 0-9, _), never the token itself")
        return name

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str, info: ValidationInfo) -> str:
        wrong = url_problem(url, allow_insecure=bool(info.data.get("allow_insecure")))
        if wrong:
            raise ValueError(wrong)
        return url


def _shown(key: str, value: Any) -> Any:
    """The value, or HIDDEN in place of the part of it that may be a secret."""
    if key == "token_env" and isinstance(value, str) and value and not _NAME.fullmatch(value):
        return HIDDEN
    if key == "body" and isinstance(value, Mapping):
        return {name: HIDDEN if _SECRET_FIELD.search(str(name)) else entry for name, entry in value.items()}
    return f"https://{HIDDEN}@" if key == "url" and isinstance(value, str) and _carries_secret(value) else value


def _carries_secret(url: str) -> bool:
    """True for an address with a user, a password, a fragment, or a query field that is named like a secret."""
    with suppress(ValueError):
        parts = urlsplit(url)
        named = (name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        return "@" in url or bool(parts.fragment) or any(_SECRET.search(name) for name in named)
    return True  # what cannot be taken apart may hold anything


def url_problem(url: str, *, allow_insecure: bool) -> str:
    """What is allowed in place of an endpoint's address that is refused, '' = it is fine. Shows no part of it.

    A name is not looked up: who writes the recipe may name any machine. Link-local addresses, where clouds keep their
    credentials, and numbers in disguise (0x7f.1, 2130706433) are refused.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "an address"
    if _carries_secret(url):
        return "an address without user, password, fragment or key; token_env names the token's variable"
    if parts.scheme not in ("https", "http") or re.search(r"[^!-~]|\\", url):
        return "https:// or http://, and plain characters"
    address = _address(host)
    if address is None and (not _HOST.fullmatch(host) or _NUMBER.fullmatch(host)):
        return "a host name, or an address in its usual form"
    if address is not None and (address.is_link_local or address.is_multicast or address.is_unspecified):
        return "no link-local, multicast or unspecified address"
    here = host == "localhost" or (address is not None and address.is_loopback)
    if parts.scheme == "http" and not (here or allow_insecure):
        return "https; http only to this machine, or with allow_insecure"
    return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with suppress(ValueError):
        found = ipaddress.ip_address(host)
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return mapped or found
    return None
