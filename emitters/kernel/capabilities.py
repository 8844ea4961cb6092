"""What this process may do without being root, by the kernel's numbers (see capabilities(7))."""

from pathlib import Path

NET_BIND_SERVICE, NET_ADMIN, SYS_PACCT, AUDIT_CONTROL, AUDIT_READ = 10, 12, 20, 30, 37

_STATUS = Path("/proc/self/status")


def has(number: int) -> bool:
    """Say whether a capability is in effect."""
    lines = _STATUS.read_text().splitlines()
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> number & 1)
