"""Collectors of others to measure beside our emitters: each looks at this host once a second."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from benchmarks.command import end_with_parent
from benchmarks.node import free_port
from benchmarks.packages import MissingError, unpacked, version

_COLLECTD: Final = """
Hostname "host"
FQDNLookup false
Interval 1
BaseDir "{folder}"
PIDFile "{folder}/pid"
PluginDir "{package}/usr/lib/collectd"
TypesDB "{package}/usr/share/collectd/types.db"
LoadPlugin cpu
LoadPlugin memory
LoadPlugin swap
LoadPlugin load
LoadPlugin disk
LoadPlugin df
LoadPlugin interface
LoadPlugin processes
LoadPlugin network
<Plugin network>
  Server "127.0.0.1" "{port}"
</Plugin>
"""
_NETDATA: Final = """
[global]
  run as user = root
[directories]
  config = {folder}
  stock config = {package}/usr/lib/netdata/conf.d
  log = {folder}
  lib = {folder}
  cache = {folder}
  web = {package}/usr/share/netdata/web
  plugins = {package}/usr/lib/netdata/plugins.d
[db]
  mode = ram
  update every = 1
[web]
  bind to = 127.0.0.1:{port}
[registry]
  enabled = no
[plugins]
  python.d = no
  charts.d = no
  go.d = no
"""
_SCRAPE_EVERY: Final = 1.0
_STARTS_WITHIN: Final = 2.0
_ENDS_WITHIN: Final = 15.0


@contextlib.asynccontextmanager
async def node_exporter(folder: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run node_exporter, and ask it once a second. Raises MissingError."""
    program = str(unpacked("prometheus-node-exporter") / "usr/bin/prometheus-node-exporter")
    port = free_port()
    async with _running(program, f"--web.listen-address=127.0.0.1:{port}") as process:
        asking = asyncio.create_task(_ask(f"http://127.0.0.1:{port}/metrics"), name="scrapes")
        try:
            yield f"node_exporter {version(program, '--version')}", process
        finally:
            asking.cancel()
            await asyncio.wait([asking])


@contextlib.asynccontextmanager
async def collectd(folder: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run collectd, which sends what it reads to a port that nobody listens at. Raises MissingError."""
    package = unpacked("collectd-core")
    program, path = str(package / "usr/sbin/collectd"), folder / "collectd.conf"
    path.write_text(_COLLECTD.format(folder=folder, package=package, port=free_port()))
    async with _running(program, "-f", "-C", str(path)) as process:
        yield f"collectd {version(program, '-h')}", process


@contextlib.asynccontextmanager
async def netdata(folder: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run netdata with its internal plug-ins and apps.plugin, keeping what it reads in memory. Raises MissingError."""
    package = unpacked("netdata-core")
    program, path = str(package / "usr/sbin/netdata"), folder / "netdata.conf"
    path.write_text(_NETDATA.format(folder=folder, package=package, port=free_port()))
    async with _running(program, "-D", "-c", str(path), "-P", str(folder / "netdata.pid")) as process:
        yield f"netdata {version(program, '-v')}", process


@contextlib.asynccontextmanager
async def _running(*argv: str) -> AsyncIterator[psutil.Process]:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdout=quiet, stderr=quiet, preexec_fn=end_with_parent)
    try:
        await asyncio.sleep(_STARTS_WITHIN)
        if process.returncode is not None:
            raise MissingError(f"'{argv[0]}' ended at once, with {process.returncode}")
        yield psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _ask(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    await answer.read()
            await asyncio.sleep(_SCRAPE_EVERY)
