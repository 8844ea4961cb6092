"""What log rotation calls the files that it has moved or copied away."""

import re
from typing import Final

COMPRESSED: Final = (".gz", ".xz", ".bz2", ".zst", ".lz4", ".lzma", ".Z", ".zip")

_SUFFIX: Final = re.compile(r"[._@-](\d[\w.:+-]*|old|bak|prev|previous|last|backup|save)(\.\w+)?|~")
_NUMBER: Final = re.compile(r"\D*(\d{1,5})(?!\d)")


def is_rotated(base: str, name: str) -> bool:
    """Tell whether a name looks like one that rotation gave to what was called `base`."""
    return name.startswith(base) and name != base and _SUFFIX.fullmatch(name, len(base)) is not None


def is_compressed(name: str) -> bool:
    return name.endswith(COMPRESSED)


def age(base: str, name: str) -> int:
    """Return what sorts names by age where files do not tell it: the oldest first.

    Small numbers are counted up at each rotation; what is longer is a date.
    """
    found = _NUMBER.match(name, len(base))
    return -int(found[1]) if found else 0
