"""Probes of TLS on servers of loopback, with certificates that are good, not trusted, out of date or for others."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from emitters.probing.handshake import described, trusting
from emitters.probing.probe import Probe
from emitters.probing.probes import PROBE, attempt
from emitters.probing.resolving import Resolver
from exhaust.expressions import Timestamp, compile_expression

WITHIN = 10.0


class Authority:
    """Signs certificates for 127.0.0.1; `path` is its own certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.path = folder / "ca.pem"
        now = datetime.now(UTC)
        own = self._builder(self._name, now - timedelta(days=1), now + timedelta(days=1), self._key.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.path.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, name: x509.Name, begins: datetime, ends: datetime, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key)
        return builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)

    def issue(self, name: str, days: float, address: str = "127.0.0.1") -> tuple[ssl.SSLContext, float]:
        """Return what a server needs, and when its certificate ends."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = self._builder(subject, ends - timedelta(days=90), ends, key.public_key())
        certificate = builder.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        path = self._folder / f"{name}.pem"
        plain = serialization.NoEncryption()
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context, ends.timestamp()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[str]:
    served = set[asyncio.Task[Any] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        with suppress(ConnectionError):
            if await reader.read(1):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell")
                await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*filter(None, served)), WITHIN)


async def tried(probe: Probe) -> dict[str, Any]:
    found = await asyncio.wait_for(attempt(probe, Resolver()), 3 * WITHIN)
    assert set(found) <= set(PROBE)
    return found


def test_the_hosts_authorities_are_read_anew_once_they_have_changed(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "host.pem"))
    assert trusting("").get_ca_certs() == []
    (tmp_path / "host.pem").write_bytes(authority.path.read_bytes())
    assert trusting("") is trusting("")
    assert len(trusting("").get_ca_certs()) == 1


async def test_a_good_certificate_is_ok_and_told(authority: Authority) -> None:
    context, ends = authority.issue("good", 7)
    async with serving(context) as there:
        found = await tried(Probe(name="a", tls=there, ca=str(authority.path), timeout=WITHIN))
        assert (found["outcome"], found["certificate_not_after"]) == ("ok", ends)
        assert (found["certificate_subject"], found["certificate_issuer"]) == ("CN=good", "CN=tests")
        assert found["tls_version"] == "TLSv1.3"
        assert 0 < found["tls_seconds"] < found["latency_seconds"]
        page = f"https://{there}/"
        found = await tried(Probe(name="a", http=page, expect="well", ca=str(authority.path), timeout=WITHIN))
        assert (found["outcome"], found["status"], found["certificate_not_after"]) == ("ok", 200, ends)


async def test_a_certificate_of_nobody_known_is_not_trusted_but_told(authority: Authority) -> None:
    context, ends = authority.issue("unknown", 7)
    async with serving(context) as there:
        for probe in (Probe(name="a", tls=there), Probe(name="a", http=f"https://{there}/")):
            found = await tried(probe)
            assert found["outcome"] == "tls"
            assert "unable to get local issuer certificate" in found["reason"]
            assert found["certificate_not_after"] == ends
            assert "status" not in found


async def test_a_certificate_that_is_out_of_date_is_told_with_its_end(authority: Authority) -> None:
    context, ends = authority.issue("late", -1)
    async with serving(context) as there:
        found = await tried(Probe(name="a", tls=there, ca=str(authority.path), timeout=WITHIN))
        assert (found["outcome"], found["reason"]) == ("tls", "certificate has expired")
        assert found["certificate_not_after"] == ends
        found = await tried(Probe(name="a", http=f"https://{there}/", verify=False, timeout=WITHIN))
        assert (found["outcome"], found["certificate_not_after"]) == ("ok", ends)


async def test_a_certificate_for_another_is_not_trusted(authority: Authority) -> None:
    context, _ = authority.issue("other", 7, "192.0.2.1")
    async with serving(context) as there:
        found = await tried(Probe(name="a", tls=there, ca=str(authority.path), timeout=WITHIN))
    assert (found["outcome"], found["certificate_subject"]) == ("tls", "CN=other")
    assert "IP address mismatch" in found["reason"]


async def test_who_does_not_speak_tls_fails_the_handshake() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found = await tried(Probe(name="a", tls=f"127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=WITHIN))
    server.close()
    assert (found["outcome"], found["reason"]) == ("tls", "WRONG_VERSION_NUMBER")


async def test_authorities_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", tmp_path / "bad.pem"):
        (tmp_path / "bad.pem").write_text("nonsense")
        found = await tried(Probe(name="a", tls="127.0.0.1:1", ca=str(path)))
        assert found["outcome"] == "error"
        assert str(path) in found["reason"]


async def test_a_renewed_file_of_authorities_is_read_anew(authority: Authority, tmp_path: Path) -> None:
    context, _ = authority.issue("good", 7)
    (tmp_path / "new").mkdir()
    stranger = Authority(tmp_path / "new")
    async with serving(context) as there:
        probe = Probe(name="a", ca=str(stranger.path), tls=there, timeout=WITHIN)
        assert (await tried(probe))["outcome"] == "tls"
        authority.path.replace(stranger.path)
        assert (await tried(probe))["outcome"] == "ok"


async def test_a_certificate_that_ends_within_a_week_makes_the_condition_true(authority: Authority) -> None:
    when = compile_expression('timestamp(record.certificate_not_after) - time < duration("7d")', ("record", "time"))
    for days, truth in ((6, True), (8, False)):
        context, _ = authority.issue("soon", days)
        async with serving(context) as there:
            found = await tried(Probe(name="a", tls=there, ca=str(authority.path), timeout=WITHIN))
        now = Timestamp.from_seconds(datetime.now(UTC).timestamp())
        assert when(found, now) is truth


def test_what_is_no_certificate_tells_nothing() -> None:
    assert described(b"nonsense") == {}
