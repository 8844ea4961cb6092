"""The bytes of a configuration's file as text, or why they cannot be."""

import re

from exhaust.documents.nodes import Fault

LARGEST_FILE = 1 << 20

# Besides what YAML refuses: line separators that editors do not count as lines, and marks that reorder what is shown.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]",
)


class UnreadableError(Exception):
    """What ends the reading of a file: the fault that says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def decode(text: bytes, file: str) -> str:
    """Return the text of a file called `file`. Raises UnreadableError."""
    if len(text) > LARGEST_FILE:
        raise UnreadableError(Fault(file, 1, 1, "larger than 1 MiB"))
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = exc.object[: exc.start].decode().splitlines(keepends=True)
        raise UnreadableError(_fault_after(before, file, f"byte 0x{exc.object[exc.start]:02x} is not UTF-8")) from exc
    if found := _CONTROL.search(decoded):
        before = decoded[: found.start()].splitlines(keepends=True)
        code = ord(found[0])
        spelled = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
        what = f"control character U+{code:04X}; between double quotes it can be written {spelled}"
        raise UnreadableError(_fault_after(before, file, what))
    return decoded


def _fault_after(before: list[str], file: str, what: str) -> Fault:
    if not before or before[-1].endswith(("\n", "\r")):
        before.append("")
    return Fault(file, len(before), len(before[-1]) + 1, what)
