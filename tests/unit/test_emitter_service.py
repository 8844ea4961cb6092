"""The settings of the emitter of services: what they take and what they refuse."""

import msgspec
import pytest

from emitters.service import Entry, Services
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.settings import INVALID, Context


def faults_of(text: str) -> list[str]:
    document, faults = compose(text.encode(), "s.yaml")
    assert document is not None
    bound = bind(document, Services, "", faults, Context())
    assert (bound is INVALID) == bool(faults)
    return [str(fault) for fault in faults]


def test_every_provider_is_taken() -> None:
    entries = """
every: 1s
services:
  - {name: shop, provider: kept, argv: ["/usr/bin/python3", "-m", "http.server"], cwd: /srv, env: {A: b}}
  - {name: cron, provider: pidfile, pidfile: /run/crond.pid, wanted: false}
  - {name: worker, provider: supervisord, socket: /run/supervisor.sock}
  - {name: "pool:pool_00", provider: supervisord, socket: /run/supervisor.sock}
  - {name: nginx.service, provider: systemd}
"""
    assert faults_of(entries) == []


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (
            "{name: nginx, provider: systemd, argv: [x]}",
            "'argv' belongs to provider kept; a systemd service has none",
        ),
        (
            "{name: w, provider: supervisord, socket: run/s}",
            "a service of provider supervisord needs 'socket', the absolute path of its unix socket",
        ),
        (
            "{name: w, provider: supervisord, argv: [x]}",
            "'argv' belongs to provider kept; a supervisord service has none",
        ),
        (
            "{name: cron, provider: pidfile, pidfile: /x, socket: /y}",
            "'socket' belongs to provider supervisord; a pidfile service has none",
        ),
        (
            "{name: 'a:b', provider: kept, argv: [x]}",
            "'a:b': only a service of provider supervisord has a group in its name",
        ),
        ("{name: shop, provider: kept}", "a kept service needs 'argv', its program and arguments"),
        ("{name: cron, provider: pidfile}", "a service of provider pidfile needs 'pidfile', the path of that file"),
        (
            "{name: shop, provider: kept, argv: [x], pidfile: /run/x}",
            "'pidfile' belongs to provider pidfile; a kept service has none",
        ),
    ],
)
def test_an_entry_that_lacks_what_its_provider_needs_is_refused(entry: str, fault: str) -> None:
    found = faults_of(f"services: [{entry}]")
    assert found[0].endswith(f": {fault} (at services[0])")


def test_a_name_that_is_no_file_name_and_one_given_twice_are_refused() -> None:
    assert "text that matches" in faults_of("services: [{name: ../x, provider: kept, argv: [x]}]")[0]
    for name in ("pool:", "pool:*", ":x", "a:b:c"):
        fault = faults_of(f"services: [{{name: '{name}', provider: supervisord, socket: /run/s}}]")[0]
        assert "text that matches" in fault
    entry = "{name: shop, provider: kept, argv: [x]}"
    assert faults_of(f"services: [{entry}, {entry}]") == ["s.yaml:1:1: service 'shop' is given twice"]


def test_the_state_directory_can_be_filled_in() -> None:
    settings = Services(services=(Entry(name="a", provider="kept", argv=("x",)),))
    assert msgspec.structs.replace(settings, state="/var/lib/x").services == settings.services
