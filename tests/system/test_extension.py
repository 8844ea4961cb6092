"""A third party's package with an emitter, an analyzer and an action: installed, it is found, listed, and works."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.node import free_port
from exhaust.commands.client import Client
from exhaust.errors import UnreachableError

ROOT = Path(__file__).parents[2]
EXHAUST = (sys.executable, "-m", "exhaust.main")
WITHIN = 60.0
SITE = """
host: home
state: {folder}/state
http: {{listen: "127.0.0.1:{port}"}}
host_policy: {folder}/policy.yaml
emitters: [{{use: folder, paths: ["{folder}/in"], every: 200ms}}]
analyzers: [{{use: above, fact: folder.full, on: folder.count, field: files, limit: 2, by: [path]}}]
rules:
  - name: empty-it
    on: folder.full
    run: empty
    with: {{path: "${{{{ cause.labels.path }}}}"}}
    mode: auto
workflows:
  - name: empty
    inputs: {{path: path}}
    tasks: [{{name: move, use: agent, do: folder.move, with: {{path: "${{{{ inputs.path }}}}", to: "{folder}/out"}}}}]
    verify: {{closes: cause, within: 20s}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Install the example into a folder of its own, and return an environment in which Python finds it."""
    target = tmp_path_factory.mktemp("site")
    source = ROOT / "examples" / "plugin"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
        str(source),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": f"{target}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}


def test_it_is_listed_with_where_it_comes_from(installed: Mapping[str, str]) -> None:
    done = subprocess.run([*EXHAUST, "plugins", "--json"], env=installed, capture_output=True, text=True, check=True)
    listed = [json.loads(line) for line in done.stdout.splitlines()]
    ours = {(one["kind"], one["name"], one["missing"]) for one in listed if one["origin"] == "exhaust-folder 0.1.0"}
    assert ours == {("emitters", "folder", ""), ("analyzers", "above", ""), ("actions", "folder.move", "")}


def test_its_settings_are_checked_like_any_others(installed: Mapping[str, str], tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("emitters: [{use: folder, pahts: [/tmp]}]\n")
    done = subprocess.run([*EXHAUST, "check", str(config)], env=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unknown key 'pahts', did you mean 'paths'?" in done.stdout


@contextlib.asynccontextmanager
async def running(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Client]:
    port = free_port()
    (folder / "site.yaml").write_text(SITE.format(folder=folder, port=port))
    (folder / "policy.yaml").write_text(f'folder.move: {{from: ["{folder}/in"], to: ["{folder}/out"]}}\n')
    with (folder / "up.log").open("wb") as log:
        argv = [*EXHAUST, "up", "--config", str(folder / "site.yaml")]
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)  # noqa: ASYNC220
        try:
            while not (folder / "state" / "token").exists():
                assert process.poll() is None, (folder / "up.log").read_text()
                await asyncio.sleep(0.05)
            async with Client(f"127.0.0.1:{port}", folder / "state" / "token") as client:
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(WITHIN)


async def test_its_emitter_analyzer_and_action_close_the_loop(installed: Mapping[str, str], tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    async with asyncio.timeout(WITHIN), running(tmp_path, installed) as client:
        for number in range(3):
            (inbox / f"{number}.txt").touch()
        runs: list[dict[str, Any]] = []
        while not runs or runs[0]["ended"] is None:
            await asyncio.sleep(0.05)
            with contextlib.suppress(UnreachableError):
                runs = await client.items("executions", {}, 10)
    assert (runs[0]["state"], runs[0]["verdict"]) == ("succeeded", "recovered")
    assert runs[0]["tasks"][0]["output"] == {"moved": 3}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.txt", "1.txt", "2.txt"]
