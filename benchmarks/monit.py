"""The same fault under monit: how long from a process's death to its restart."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.command import end_with_parent
from benchmarks.installation import resident, tree
from benchmarks.packages import debian, version
from benchmarks.peer import Peer
from benchmarks.victim import Victim

_CONFIGURATION: Final = """set daemon 1
set log {folder}/log
set pidfile {folder}/monit.pid
set statefile {folder}/state
set idfile {folder}/id
check process victim with pidfile {victim.pidfile}
  start program = "{victim.start}"
"""


def _pause(number: int) -> float:
    return 1.5 + 0.37 * (number % 3)  # kills fall at other moments of monit's cycle each time


async def measure(folder: Path, kills: int, pause: Callable[[int], float] = _pause) -> Peer:
    """Kill a process that monit keeps, checking every second. Raises MissingError where there is no monit."""
    program = debian("monit", "monit")
    victim = Victim(folder / "victim")
    (folder / "monitrc").write_text(_CONFIGURATION.format(folder=folder, victim=victim))
    (folder / "monitrc").chmod(0o600)
    quiet = asyncio.subprocess.DEVNULL
    monit = await asyncio.create_subprocess_exec(
        *program, "-I", "-c", str(folder / "monitrc"), stdout=quiet, stderr=quiet, preexec_fn=end_with_parent
    )
    try:
        found = await victim.killed(kills, pause)
        held = resident(tree(monit.pid)[:1])
    finally:
        monit.terminate()
        await monit.wait()
        victim.close()
    return Peer(f"monit {version(*program, '-V')}", "checks every second, by pidfile", found, held)
