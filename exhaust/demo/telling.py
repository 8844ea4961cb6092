"""What the demo prints: a time-line for people, or JSON lines."""

import asyncio
import signal
import sys

import msgspec

from exhaust.demo.scenes import Step, play

_TITLES = {
    1: "Scene 1. A service is killed with SIGKILL.",
    2: "Scene 2. A service is killed that cannot come back: its configuration is gone.",
}
_TEXTS = {
    "death": "the service is killed",
    "noticed": "its emitter notices",
    "fact_opened": "a fact opens",
    "decision": "the activator decides",
    "command": "the orchestrator commands",
    "restarted": "the service runs",
    "fact_closed": "the fact closes",
    "verdict": "the verdict",
    "notified": "a person is told",
}
_WIDTH = 110


class Teller:
    """Prints steps as they come."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._scene = 0

    def __call__(self, step: Step) -> None:
        if self._as_json:
            line = {"scene": step.scene, "step": step.step, "ms": step.ms, "id": step.id, **step.more}
            self._print(msgspec.json.encode(line).decode())
            return
        if step.scene != self._scene:
            self._scene = step.scene
            self._print(f"\n{_TITLES[step.scene]}\n\n{'ms':>10}")
        more = ", ".join(filter(None, (_said(name, value) for name, value in step.more.items())))
        self._print(f"{step.ms:10.1f}  {_TEXTS[step.step]:27}{more}"[:_WIDTH].rstrip())

    def said(self, text: str) -> None:
        """Tell people something that is no step."""
        print(text, file=sys.stderr if self._as_json else sys.stdout, flush=True)

    def _print(self, line: str) -> None:
        print(line, flush=True)  # noqa: T201  a command's own voice


def _said(name: str, value: object) -> str:
    if name in ("verdict", "summary", "text", "outcome", "reason", "state"):
        return str(value)
    if isinstance(value, list):
        return f"{name} {' and '.join(map(str, value))}"
    if name == "rung":
        return "the ladder's next rung"
    return f"{name} {value}"


async def demo(broker: str, *, as_json: bool) -> int:
    """Run the demo; return 0 only if the first scene ended recovered and the second not_recovered."""
    teller = Teller(as_json=as_json)
    if not as_json:
        teller.said(
            f"Starting seven components on the {'embedded broker' if broker == 'embedded' else 'given RabbitMQ'} …"
        )
    task = asyncio.current_task()
    if task is not None:  # told to end, it ends what it started
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        well = await play(broker, teller)
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    if not as_json:
        teller.said(
            "\nAs it should be: healed and verified, then given up and said so."
            if well
            else "\nThis is not as it should be."
        )
    return 0 if well else 1
