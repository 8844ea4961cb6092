"""Connections as they are looked at, beside ss(8); what the kernel drops, and what an ordinary user sees."""

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emitters.network import EMITTER
from emitters.sockets import flows
from tests.system.network_host import BYTES, FAMILIES, WITHIN, connected, observing

ROOT = Path(__file__).parents[2]
_PR_SET_DUMPABLE = 4


def narrow() -> socket.socket:
    found = flows.subscribed()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return found


def test_what_the_kernel_drops_is_counted_to_the_last() -> None:
    code = f"import asyncio; from {__name__} import refused; asyncio.run(refused(3000))"
    alone = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else [])]
    program = [*alone, "sh", "-c", 'ip link set lo up && exec "$0" -W error -c "$1"', sys.executable, code]
    found = subprocess.run(program, capture_output=True, text=True, timeout=2 * WITHIN, cwd=ROOT)
    assert (found.stderr, found.returncode) == ("", 0)
    failed, told, lost = map(int, found.stdout.split())
    assert told + lost == failed > 3000
    assert lost


async def refused(count: int) -> None:
    """Fail to connect that often, in a network namespace where nobody else does; print what was told and lost."""
    async with observing("flow", subscribe=narrow, every=60.0) as observed:
        for _ in range(count):  # all before the emitter can read any
            knock()
        await observed.until(lambda: observed.lost)
        port = 0
        while not any(one.fields["local_port"] == port for one in observed.records):  # the kernel may drop these, too
            port, count = knock(), count + 1
            await observed.until(partial(observed.accounts_for, count))
        assert {(lost.reason, lost.stream) for lost in observed.lost} == {("kernel", "flow")}
        assert {one.fields["remote_address"] for one in observed.records} == {"127.0.0.1"}
        print(count, len(observed.records), sum(lost.count for lost in observed.lost))


def knock() -> int:
    """Return the port from which a connection was refused."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            one.connect(("127.0.0.1", 1))
        return int(one.getsockname()[1])


def refuse() -> socket.socket:
    raise PermissionError(1, "Operation not permitted")


async def test_where_nothing_is_announced_looks_are_compared() -> None:
    async with observing("connection", "flow", subscribe=refuse) as observed:
        client, server = connected(*FAMILIES[1])
        ports = client.getsockname()[1], server.getsockname()[1]
        client.sendall(bytes(BYTES))
        assert len(await asyncio.to_thread(server.recv, BYTES, socket.MSG_WAITALL)) == BYTES
        await observed.until(lambda: (observed.of(*ports, "connection") or {}).get("sent_bytes") == BYTES)
        client.close()
        server.close()
        ended = await observed.end(*ports)
    assert (ended["evidence"], ended["sent_bytes"], ended["pid"]) == ("dump", BYTES, os.getpid())
    assert len([one for one in observed.records if one.stream == "flow" and one.fields["local_port"] == ports[0]]) == 1


_WORDS = {"ESTAB": "established", "LISTEN": "listen", "CLOSE-WAIT": "close_wait", "FIN-WAIT-2": "fin_wait2"}


async def test_connections_are_those_of_ss() -> None:
    with ExitStack() as opened:
        ports = set[int]()
        for family, host in FAMILIES[:2]:
            listener = opened.enter_context(socket.socket(family))
            listener.bind((host, 0))
            listener.listen(5)
            ports.add(listener.getsockname()[1])
            clients = [socket.create_connection(listener.getsockname()[:2]) for _ in range(4)]
            servers = [listener.accept()[0] for _ in clients[:3]]
            for one in (*clients, *servers):
                opened.enter_context(one)
            clients[0].sendall(b"x" * 100)
            clients[1].shutdown(socket.SHUT_WR)
        async with observing("connection") as observed:
            last = {"local_port": max(ports), "state": "listen"}.items()
            await observed.until(lambda: [one for one in observed.records if last <= one.fields.items()])
            said = (await asyncio.to_thread(subprocess.check_output, ["ss", "-tnaH"])).decode()
            count = len(observed.records)
            await observed.until(lambda: [one for one in observed.records[count:] if last <= one.fields.items()])
            found = [one.fields for one in observed.records if one.time == observed.records[count].time]
    theirs = sorted(tuple(line.split()[:5]) for line in said.splitlines() if _ports(line) & ports)
    ours = [one for one in found if {one["local_port"], one.get("remote_port")} & ports]
    assert sorted(map(_as_ss, ours)) == [(_WORDS[state], *rest) for state, *rest in theirs]
    assert len(ours) == 2 * (1 + 4 + 4)


def _ports(line: str) -> set[int]:
    return {int(end.rpartition(":")[2]) for end in line.split()[3:5] if not end.endswith("*")}


def _as_ss(one: dict[str, Any]) -> tuple[str, ...]:
    queues = one.get("backlog", one.get("receive_queue_bytes")), one.get("backlog_limit", one.get("send_queue_bytes"))
    local, remote = (_bracketed(one.get(f"{end}_address", "")) for end in ("local", "remote"))
    if one["state"] == "listen":
        remote = "[::]" if one["family"] == "ipv6" else "0.0.0.0"
    return one["state"], *map(str, queues), f"{local}:{one['local_port']}", f"{remote}:{one.get('remote_port', '*')}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def test_an_ordinary_user_sees_connections_their_ends_and_what_is_his() -> None:
    code = f"from {__name__} import see_as_anybody; see_as_anybody()"
    program = [sys.executable, "-W", "error", "-c", code]
    found = subprocess.run(program, capture_output=True, text=True, timeout=2 * WITHIN, cwd=ROOT)
    assert (found.stderr, found.returncode) == ("", 0)
    assert "CAP_SYS_PTRACE" in found.stdout


def see_as_anybody() -> None:
    """Become an ordinary user, and look; print why the owners of others' connections cannot be seen."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)  # as one whose program began as that user; else /proc/self is root's
    asyncio.run(_seen())
    print(EMITTER.sources()["owners of all connections"])


async def _seen() -> None:
    subscribe = refuse if flows.unusable() else flows.subscribed
    async with observing("connection", "flow", subscribe=subscribe) as observed:
        client, server = connected(*FAMILIES[0])
        ports = client.getsockname()[1], server.getsockname()[1]
        seen = await observed.until(lambda: observed.of(*ports, "connection"))
        client.close()
        server.close()
        ended = await observed.end(*ports)
    assert (seen["pid"], seen["uid"], ended["pid"]) == (os.getpid(), os.getuid(), os.getpid())
    assert ended["evidence"] == ("dump" if subscribe is refuse else "destroy")
