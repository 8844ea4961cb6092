"""What an action gave, made to fit into a signed result."""

from typing import Any

import msgspec

# In an envelope of 64 KiB the payload is base64, a third larger than what it holds.
MOST_BYTES = 40_960
_CUTS = (16_384, 8_192, 4_096, 2_048, 1_024, 512)


def fitting(output: Any) -> Any:
    """Return plain data that is at most 40 KiB as JSON: its longest texts are cut, and marked where they were."""
    if _size(output) <= MOST_BYTES:
        return output
    for most in _CUTS:
        cut = _cut(output, most)
        if _size(cut) <= MOST_BYTES:
            return cut
    return _cut(msgspec.json.encode(output).decode(), _CUTS[2])


def _size(output: Any) -> int:
    return len(msgspec.json.encode(output))


def _cut(value: Any, most: int) -> Any:
    if isinstance(value, str) and len(value) > most:
        return f"{value[:most]}\n[{len(value) - most} characters more were cut]"
    if isinstance(value, dict):
        return {key: _cut(item, most) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(item, most) for item in value]
    return value
