"""The action `command.run`: a program from the policy's catalogue, never through a shell."""

from pathlib import Path

from agents.policy import untrusted
from exhaust.plugins import Action, ActionError, Limits, Outcome, Settings, Tools


class Run(Settings, frozen=True, kw_only=True):
    """Which command of the catalogue, and what follows its own arguments."""

    command: str
    args: tuple[str, ...] = ()


class Arguments(Settings, frozen=True, kw_only=True):
    """What may follow a command: at most `most` arguments, each of `one_of` where that is given."""

    most: int = 0
    one_of: tuple[str, ...] | None = None


class Catalogued(Settings, frozen=True, kw_only=True):
    """One command: a program by its absolute path, with the arguments that it always has."""

    argv: tuple[str, ...]
    args: Arguments = Arguments()

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0].startswith("/"):
            raise ValueError("'argv' needs a program by its absolute path")


class CommandLimits(Limits, frozen=True, kw_only=True):
    """The catalogue: what is not in it cannot be run."""

    commands: dict[str, Catalogued]

    def forbids(self, params: Run) -> str | None:
        known = self.commands.get(params.command)
        if known is None:
            return "command"
        rule = known.args
        listed = rule.one_of is None or set(params.args) <= set(rule.one_of)
        return None if listed and len(params.args) <= rule.most else "args"


async def run(params: Run, tools: Tools) -> Outcome:
    known = tools.limits.commands[params.command]
    _check(Path(known.argv[0]))
    ended = await tools.run((*known.argv, *params.args))
    output = {"exit": ended.exit, "stdout": ended.stdout, "stderr": ended.stderr}
    if ended.exit:
        what = f"exit status {ended.exit}" if ended.exit > 0 else f"ended by signal {-ended.exit}"
        raise ActionError(f"'{params.command}': {what}", output)
    return Outcome(changed=True, output=output)


def _check(program: Path) -> None:
    try:
        why = untrusted(program.stat())
    except OSError as exc:
        raise ActionError(f"'{program}' cannot be run: {exc.strerror}") from exc
    if why:
        raise ActionError(f"'{program}' is not run: it {why}")


RUN = Action("command.run", Run, run, limits=CommandLimits)
