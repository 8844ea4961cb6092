"""People in the loop, on a whole installation and by its own commands: trigger, halt, resume, emit, and explain."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.system.installation import ROOT, Installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN = 30.0
# The service does not heed SIGTERM: a restart takes as long as it is given.
SLOWLY = 4.0
ADDED = f"""
  - name: twice
    inputs: {{service: string}}
    tasks:
      - name: first
        use: agent
        do: service.restart
        with: {{service: "${{{{ inputs.service }}}}", stop_timeout: {SLOWLY * 1000:.0f}ms}}
      - name: second
        use: agent
        do: service.restart
        with: {{service: "${{{{ inputs.service }}}}", stop_timeout: 100ms}}
people:
  - {{name: ann, token_file: ann.token, may: [halt]}}
"""
CUSTOM = "  - {use: condition, fact: traffic.high, on: custom.traffic, when: record.rps > 900, by: [site]}\n"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


async def begin(config: Path, *words: str, said: bytes = b"") -> asyncio.subprocess.Process:
    """Run a command as a person types it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exhaust.main", *words, "--config", str(config),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(said)
    process.stdin.close()
    return process


async def end(process: asyncio.subprocess.Process) -> Done:
    out, err = await asyncio.wait_for(process.communicate(), WITHIN)
    return Done(process.returncode or 0, out.decode(), err.decode())


class Site:
    """An installation that only observes by itself, its command line, and the file of ann's token."""

    def __init__(self, installation: Installation, token: Path) -> None:
        self.installation = installation
        self.token = token

    async def exhaust(self, *words: str, said: bytes = b"") -> Done:
        return await end(await begin(self.installation.config, *words, said=said))

    async def run_is(self, execution: str, **fields: Any) -> None:
        """Wait until a run has such fields."""

        async def holds() -> bool:
            item = await self.installation.client.find(f"/api/v1/executions/{execution}")
            return item is not None and all(item[name] == value for name, value in fields.items())

        await self.installation.until(holds, WITHIN)

    async def fact(self, name: str, **labels: str) -> Mapping[str, Any]:
        """Wait for an open fact."""
        found: list[Mapping[str, Any]] = []
        filters = {f"labels.{label}": value for label, value in labels.items()}

        async def opened() -> bool:
            found[:] = await self.installation.items("facts", name=name, state="open", **filters)
            return bool(found)

        await self.installation.until(opened, WITHIN)
        return found[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("orders")
    token = folder / "ann.token"
    token.write_text(os.urandom(20).hex())
    token.chmod(0o600)
    installation = Installation(folder, "embedded", within="5s")
    text = installation.config.read_text() + ADDED
    changes = {
        "mode: auto": "mode: observe",
        "rules:\n": f"{CUSTOM}rules:\n",
        "exec sleep": "trap '' TERM; exec sleep",
        'inputs.service }}"}}]': 'inputs.service }}", stop_timeout: 100ms}}]',
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    installation.config.write_text(text)
    async with installation:
        yield Site(installation, token)


async def test_a_triggered_run_starts_the_service_anew_and_is_waited_for(site: Site) -> None:
    before = site.installation.service
    done = await site.exhaust("trigger", "twice", "--host", "home", "service=shop", "--reason", "a test", "--wait")
    assert (done.code, done.err) == (0, ""), done
    execution, how = done.out.splitlines()
    assert how == "succeeded, unknown"
    assert site.installation.service != before
    run = await site.installation.client.get(f"/api/v1/executions/{execution}")
    assert [task["state"] for task in run["tasks"]] == ["succeeded", "succeeded"]
    chain = await site.installation.client.get(f"/api/v1/explain/{execution}")
    assert [(order["by"], order["reason"]) for order in chain["orders"]] == [("local", "a test")]
    assert [decision["rule"] for decision in chain["decisions"]] == ["trigger:twice"]


async def test_what_an_agent_s_own_policy_forbids_fails_and_says_why(site: Site) -> None:
    done = await site.exhaust("trigger", "restart", "service=other", "--wait", "--json")
    ended = json.loads(done.out.splitlines()[-1])
    assert (done.code, ended["state"]) == (1, "failed")
    assert "refused: policy" in ended["tasks"][0]["error"]


async def test_while_halted_a_run_is_refused_and_after_the_resume_it_runs(site: Site) -> None:
    halted = await site.exhaust("halt", "--reason", "lunch", "--token-file", str(site.token))
    assert (halted.code, halted.out) == (0, "halted: everything\n")
    done = await site.exhaust("trigger", "restart", "--wait", "service=shop")
    assert done.code == 1
    assert done.out.splitlines()[1:] == ["refused", "  halt: halted by ann, wants not halted"]
    status = await site.exhaust("status")
    assert "HALTED" in status.out
    assert "by ann: lunch" in status.out
    assert (await site.exhaust("resume")).out == "resumed: everything\n"
    done = await site.exhaust("trigger", "restart", "--wait", "service=shop")
    assert (done.code, done.out.splitlines()[1:]) == (0, ["succeeded, unknown"])


async def test_a_run_that_a_halt_stopped_in_the_middle_goes_on_after_the_resume(site: Site) -> None:
    client = site.installation.client
    asked = await client.post("/api/v1/workflows/twice/trigger", {"inputs": {"service": "shop"}, "host": "home"})
    await site.run_is(asked["execution"], state="running")
    halt = await client.post("/api/v1/halt", {"host": "home"})
    await site.run_is(asked["execution"], state="waiting", reason="halted")
    run = await client.get(f"/api/v1/executions/{asked['execution']}")
    assert [(task["name"], task["state"]) for task in run["tasks"]] == [("first", "succeeded")]
    resume = await client.post("/api/v1/resume", {"host": "home"})
    await site.run_is(asked["execution"], state="succeeded")
    chain = await client.get(f"/api/v1/explain/{asked['execution']}")
    assert {order["id"] for order in chain["orders"]} >= {asked["order"], resume["order"]}
    assert halt["order"] != resume["order"]


async def test_what_is_emitted_opens_a_fact_and_the_beginning_of_its_id_explains_it(site: Site) -> None:
    done = await site.exhaust(
        "emit", "traffic", said=b'{"rps": 1000, "site": "\xe7\x95\x8c"}\n{"rps": 1, "site": "b"}\n'
    )
    assert (done.code, done.out) == (0, "2 records taken\n")
    fact = await site.fact("traffic.high", site="界")
    chain = json.loads((await site.exhaust("explain", fact["id"][:13], "--json")).out)
    assert [(record["rps"], record["site"]) for record in chain["records"]] == [(1000, "界")]
    ledger = [row for row in (await site.installation.client.get("/status"))["ledger"] if row["emitter"] == "custom"]
    assert [(row["received"], row["records"], row["missing"]) for row in ledger] == [(1, 2, 0)]


async def test_records_are_shown_as_they_arrive(site: Site) -> None:
    done = await site.exhaust("records", "service.state", "--json")
    assert done.code == 0
    (record,) = map(json.loads, done.out.splitlines())
    assert (record["host"], record["stream"], record["service"]) == ("home", "service.state", "shop")


async def test_whoever_follows_is_left_quietly(site: Site) -> None:
    process = await begin(site.installation.config, "records", "service.state", "--follow")
    assert process.stdout is not None
    assert b"service=shop" in await asyncio.wait_for(process.stdout.readline(), WITHIN)
    process.send_signal(signal.SIGINT)
    done = await end(process)
    assert (done.code, done.err) == (130, "")


async def test_who_may_not_is_told_so(site: Site) -> None:
    done = await site.exhaust("emit", "traffic", "--token-file", str(site.token), said=b"{}\n")
    assert (done.code, done.out) == (2, "")
    assert done.err == "'ann' lacks the scope 'emit'\n"


async def test_where_nobody_answers_halt_says_how_to_halt_all_the_same(tmp_path: Path) -> None:
    config, token = tmp_path / "site.yaml", tmp_path / "token"
    config.write_text(f"state: {tmp_path}\nhttp: {{listen: '127.0.0.1:1'}}\n")
    token.write_text("x" * 32)
    done = await end(await begin(config, "halt"))
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert f"'touch {tmp_path}/HALT' halts this host" in done.err
