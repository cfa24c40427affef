"""JSON that knows whether it has changed since it was written."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def checked_json(content: Mapping[str, Any]) -> str:
    """The text of an object, with a checksum of its own.

    Numbers that are not finite, which JSON has no word for, become null.
    """
    written = finite(content)
    written["checksum"] = checksum(written)
    return json.dumps(written, indent=1) + "\n"


def parse_checked_json(text: str) -> dict[str, Any]:
    """The object in what `checked_json` wrote, without its checksum.

    Raises:
        ValueError: If it is damaged, or has no checksum.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("expected an object.")
    known = content.pop("checksum", None)
    if known is None:
        raise ValueError("it has no checksum.")
    if known != checksum(content):
        raise ValueError("it has changed since it was written.")
    return content


def checksum(content: Mapping[str, Any]) -> str:
    """Compute the checksum of JSON, however it is written."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def finite(content: Any) -> Any:
    """Make None of all numbers that JSON cannot write."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
