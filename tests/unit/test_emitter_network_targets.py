"""Which probes can be meant, what their targets are, and when they start."""

import pytest

from emitters.network import Network
from emitters.probing.probe import Probe, place, question, url
from emitters.probing.probes import delay
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.settings import Context


def test_when_a_probe_starts_follows_from_its_name() -> None:
    delays = {delay(Probe(name=f"p{n}", tcp="localhost:1")) for n in range(20)}
    assert len(delays) == 20
    assert all(0 <= wait < 1 for wait in delays)
    assert delay(Probe(name="p", tcp="localhost:1", every=0.2)) < 0.2


def test_targets_are_taken_apart() -> None:
    assert place("[::1]:443") == ("::1", 443)
    assert place("shop.test:80") == ("shop.test", 80)
    assert url("https://shop.test?x=1#y") == (("shop.test", 443), True, "shop.test", "/?x=1")
    assert url("http://[::1]:8080/a/b").place == ("::1", 8080)
    assert question("shop.test") == ("shop.test", None)
    assert question("_x.shop.test.@[::1]") == ("_x.shop.test.", ("::1", 53))


def faults_of(text: str) -> list[str]:
    document, faults = compose(f"probes: [{text}]".encode(), "s.yaml")
    assert document is not None
    bind(document, Network, "", faults, Context())
    return [str(fault) for fault in faults]


@pytest.mark.parametrize(
    "text",
    [
        '{name: shop, http: "http://127.0.0.1:8080/health", every: 10s, timeout: 2s, labels: {service: shop}}',
        '{name: shop, tls: "shop.example.org:443", every: 1h, labels: {certificate: shop}}',
        '{name: a, http: "http://a/", expect: [200, 404]}, {name: b, http: "http://b/", expect: well}',
        '{name: a, dns: "a.test@127.0.0.1", query: AAAA}, {name: b, udp: "[::1]:9", send: ping}',
    ],
)
def test_probes_are_taken(text: str) -> None:
    assert faults_of(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{name: a}", "a probe has one target; give one of tcp, http, tls, dns, udp"),
        ('{name: a, tcp: "b:1", udp: "b:1"}', "a probe has one target"),
        ("{name: a, tcp: b}", "'b' has no port"),
        ('{name: a, tcp: "::1:80"}', "an IPv6 address stands in brackets"),
        ('{name: a, tcp: "b c:80"}', "names no host"),
        ('{name: a, tcp: "b:65536"}', "has no port"),
        ('{name: a, http: "ftp://b/"}', "is no URL"),
        ('{name: a, http: "http://b/ c"}', "is no URL"),
        ('{name: a, http: "http://me:secret@b/"}', "a URL with a password in it cannot be probed"),
        ('{name: a, dns: "b..c"}', "names no name to ask for"),
        ('{name: a, tls: "b:1", send: hello}', "'send' belongs to probes of tcp and udp"),
        ('{name: a, tcp: "b:1", verify: false}', "'verify' belongs to probes of tls and http"),
        ('{name: a, tcp: "b:1", expect: [200]}', "a probe of tcp expects text; statuses are of http"),
        ('{name: a, tls: "b:1", expect: x}', "a probe of tls expects nothing but a certificate"),
        ('{name: a, tcp: "b:1"}, {name: a, tcp: "b:2"}', "probe 'a' is given twice"),
    ],
)
def test_probes_that_cannot_be_meant_are_refused(text: str, fault: str) -> None:
    (found,) = faults_of(text)
    assert fault in found
    assert "secret" not in found
