"""The metadata of a feature file as text."""

import json
from collections.abc import Mapping
from typing import Any


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """JSON, the same for the same values."""
    return json.dumps(dict(metadata), sort_keys=True)


def metadata_from(text: str | bytes | None, source: str) -> dict[str, Any]:
    """The values; none without a text. Raises ValueError for what is no JSON object."""
    if text is None:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: its metadata is not readable as JSON: {error}.") from None
    if not isinstance(values, dict):
        raise ValueError(f"{source}: its metadata must be a JSON object, found a {type(values).__name__}.")
    return values
