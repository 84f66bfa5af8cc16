"""Secrets out of what is shown or written: in addresses, and in options by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_WORDS = (
    r"passw|pwd|secret|token|credential|access.?key|account.?key|api.?key|signature|\bsig\b|sas"
)
_SECRET_NAME = re.compile(_WORDS, re.IGNORECASE)
# s3a://key:secret@bucket, jdbc:postgresql://user:word@host
# a secret may hold slashes and @; what is digits up to a slash is a port
_USER_INFO = re.compile(r"(\w://)[^/@:\s'\"]*:(?!\d+/)[^\s'\"]*@")
# ...?user=u&password=word, ;password=word
_PARAMETER = re.compile(rf"([\w.\-]*(?:{_WORDS})[\w.\-]*=)[^&;\s'\",)]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Return a text without the secrets in the addresses that it names."""
    return _PARAMETER.sub(rf"\g<1>{MASK}", _USER_INFO.sub(rf"\g<1>{MASK}@", text))


def masked_values(values: Any) -> Any:
    """Return nested values with every text masked, and every value that a secret's name holds."""
    if isinstance(values, Mapping):
        return {
            key: MASK if _is_secret(key) and value is not None else masked_values(value)
            for key, value in values.items()
        }
    if isinstance(values, list | tuple):
        return [masked_values(value) for value in values]
    return masked(values) if isinstance(values, str) else values


def _is_secret(key: object) -> bool:
    return _SECRET_NAME.search(str(key)) is not None
