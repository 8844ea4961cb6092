"""Text from outside made fit to be shown: no control characters, no more than fits."""

import unicodedata


def clean(text: str, most: int) -> str:
    """Return `text` on one line, control and format characters escaped, cut to `most` characters with an ellipsis."""
    shown = "".join(c if _plain(c) else c.encode("unicode_escape").decode() for c in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _plain(character: str) -> bool:
    return character == " " or unicodedata.category(character)[0] not in "CZ"
