"""Probes of tls: whether a handshake succeeds, and until when the certificate is good, also where it is not trusted."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509

from emitters.probing.attempt import Attempt, ProbeError
from emitters.probing.probe import Place, Probe, place
from exhaust.text import clean

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_LONGEST_NAME = 200


@lru_cache(16)
def _trusting(ca: str, written: tuple[int, ...]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca or None)


def trusting(ca: str) -> ssl.SSLContext:
    """Return what verifies against the authorities in a file, else those of the host; it takes some 20 ms at first.

    They are read anew once what holds them was written to.

    Raises OSError where the file cannot be read, SSLError where it holds no certificates.
    """
    if ca:
        return _trusting(ca, (Path(ca).stat().st_mtime_ns,))
    paths = ssl.get_default_verify_paths()
    return _trusting("", tuple(Path(path).stat().st_mtime_ns for path in (paths.cafile, paths.capath) if path))


@lru_cache(1)
def looking() -> ssl.SSLContext:
    """Return what verifies nothing, for a look at the certificate; nothing is said over such a connection but then."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def tls(attempt: Attempt) -> None:
    async with secured(attempt, place(attempt.probe.tls)):
        pass


def context_for(probe: Probe) -> ssl.SSLContext:
    """Return what a probe shakes hands with. Raises ProbeError where its authorities cannot be read."""
    try:
        return trusting(probe.ca) if probe.verify else looking()
    except OSError as exc:
        raise ProbeError("error", f"authorities cannot be read from {probe.ca!r}: {exc}") from exc


@asynccontextmanager
async def secured(attempt: Attempt, there: Place) -> AsyncIterator[Streams]:
    """Connect and shake hands; the certificate is told in any case."""
    context = context_for(attempt.probe)
    try:
        async with _shaken(attempt, there, context) as streams:
            yield streams
            return
    except ssl.SSLCertVerificationError:
        await _look(attempt, there)
        raise


async def _look(attempt: Attempt, there: Place) -> None:
    """Connect once more, as a handshake that fails shows no certificate."""
    try:
        async with _shaken(attempt, there, looking()):
            pass
    except (OSError, ProbeError):
        return  # what is told is why the first one failed


@asynccontextmanager
async def _shaken(attempt: Attempt, there: Place, context: ssl.SSLContext) -> AsyncIterator[Streams]:
    async with streams(attempt, there, context) as (reader, writer):
        secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
        attempt.found["tls_version"] = secured.version()
        if certificate := secured.getpeercert(binary_form=True):
            attempt.found |= described(certificate)
        yield reader, writer


@asynccontextmanager
async def streams(attempt: Attempt, there: Place, context: ssl.SSLContext | None = None) -> AsyncIterator[Streams]:
    """Connect, and cut off at the end without a farewell, which a peer could draw out."""
    connection = await attempt.connect(there)
    try:
        since = time.monotonic()
        name = there.host if context else None
        reader, writer = await asyncio.open_connection(sock=connection, ssl=context, server_hostname=name)
    except BaseException:
        connection.close()
        raise
    try:
        if context:
            attempt.took("tls", since)
        yield reader, writer
    finally:
        writer.transport.abort()


def described(certificate: bytes) -> dict[str, Any]:
    """Return what is told of a certificate in DER; nothing of one that cannot be read."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        return {
            "certificate_not_before": found.not_valid_before_utc.timestamp(),
            "certificate_not_after": found.not_valid_after_utc.timestamp(),
            "certificate_subject": clean(found.subject.rfc4514_string(), _LONGEST_NAME),
            "certificate_issuer": clean(found.issuer.rfc4514_string(), _LONGEST_NAME),
        }
    except ValueError:
        return {}
