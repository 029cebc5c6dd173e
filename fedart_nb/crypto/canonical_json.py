"""The one way in which values become bytes that are signed or hashed."""

from __future__ import annotations

import json
from typing import Any

from ..errors import WireError

__all__ = ["canonical_json"]


def canonical_json(value: Any) -> bytes:
    """Encode so that equal values give equal bytes: sorted keys, no spaces, UTF-8, no NaN or Infinity.

    >>> canonical_json({"b": 1, "a": [0.5]})
    b'{"a":[0.5],"b":1}'
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"Not a value that can be sent as JSON: {error}.") from error
