"""Who said it: Ed25519 signatures over the exact bytes, in DSSE envelopes (secure-systems-lab/dsse, protocol v1).

A role (`activator`, `orchestrator`, `agent`; for people's orders the `collector`) owns one key. The reader, never the
message, chooses whose key must have signed, and there is one algorithm. `keyid` only names the signer for people.
"""

import base64
import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from exhaust.errors import ConfigurationError, ForgeryError, MessageError
from exhaust.messages import Activation, AnyMessage, Codec, Command, Message, Order, Result, kind_of

SIGNED: tuple[type[Message], ...] = (Activation, Command, Order, Result)
ROLES = ("activator", "orchestrator", "collector", "agent")
MOST_BYTES = 65_536
MOST_PAYLOAD = 48_640
"""Of a message as JSON: base64 in an envelope makes it a third longer, and what is around it is under 512 bytes."""


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload_type: str
    payload: str
    signatures: tuple[_Signature, ...]


_envelopes = msgspec.json.Decoder(_Envelope)


def payload_type(kind: str) -> str:
    """Return the media type that is signed with the bytes, so that one kind never passes for another."""
    name, _, version = kind.partition("/")
    return f"application/vnd.exhaust.{name}.v{version}+json"


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the raw public key in hexadecimal."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def _signed_bytes(media_type: str, payload: bytes) -> bytes:
    kind = media_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


class Signer:
    """One role's private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.fingerprint = fingerprint(key.public_key())

    def seal(self, message: Message) -> bytes:
        """Return the envelope's bytes."""
        payload, media_type = Codec.encode(message), payload_type(kind_of(message))
        signature = self._key.sign(_signed_bytes(media_type, payload))
        envelope = _Envelope(
            media_type,
            base64.b64encode(payload).decode(),
            (_Signature(self.fingerprint, base64.b64encode(signature).decode()),),
        )
        sealed = msgspec.json.encode(envelope)
        if len(sealed) > MOST_BYTES:
            raise MessageError(f"a {kind_of(message)} of {len(sealed)} bytes cannot be sealed: at most {MOST_BYTES}")
        return sealed

    def attest(self, kind: str, body: bytes) -> str:
        """Return a signature that goes beside a body that stays readable."""
        return base64.b64encode(self._key.sign(_signed_bytes(payload_type(kind), body))).decode()


class Verifier:
    """The public keys that one reader accepts, by the kind of message that each may sign."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = {payload_type(kind): (key, fingerprint(key)) for kind, key in keys.items()}

    def check(self, kind: str, body: bytes, signature: object) -> None:
        """Raise ForgeryError unless the one key accepted for this kind has signed the body."""
        key, _ = self._keys.get(payload_type(kind), (None, ""))
        if key is None:
            raise ForgeryError(f"nobody may sign a '{kind}' for this reader")
        try:
            key.verify(_decoded(str(signature)), _signed_bytes(payload_type(kind), body))
        except (InvalidSignature, ValueError) as exc:
            raise ForgeryError(f"the signature of a '{kind}' is wrong or missing") from exc

    def open(self, body: bytes) -> AnyMessage:
        """Return the message inside. Raise ForgeryError if it is not signed by the one key accepted for its kind."""
        if len(body) > MOST_BYTES:
            raise MessageError(f"an envelope of {len(body)} bytes is refused: at most {MOST_BYTES}")
        try:
            envelope = _envelopes.decode(body)
            payload = _decoded(envelope.payload)
            (given,) = envelope.signatures
            signature = _decoded(given.sig)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise MessageError(f"the body is no signed envelope: {exc}") from exc
        key, name = self._keys.get(envelope.payload_type, (None, ""))
        if key is None:
            raise ForgeryError(f"nobody may sign '{envelope.payload_type[:80]}' for this reader")
        if given.keyid != name:
            raise ForgeryError(f"a '{envelope.payload_type}' names another key than the one that must sign it")
        try:
            key.verify(signature, _signed_bytes(envelope.payload_type, payload))
        except InvalidSignature as exc:
            raise ForgeryError(f"the signature of a '{envelope.payload_type}' is wrong") from exc
        message = Codec.decode(payload)
        if payload_type(kind_of(message)) != envelope.payload_type:
            raise ForgeryError(f"a '{kind_of(message)}' was signed as '{envelope.payload_type}'")
        return message


def _decoded(text: str) -> bytes:
    """Return what base64 says. Raise ValueError where the same could be said otherwise: nothing unsigned may vary."""
    decoded = base64.b64decode(text, validate=True)
    if base64.b64encode(decoded).decode() != text:
        raise ValueError("base64 with stray bits")
    return decoded


class Keys:
    """The installation's key files: `<role>.key` (owner only) and `<role>.pub`, made where they are missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def signer(self, role: str) -> Signer:
        """Return the role's private key, made now if there is none. Raises ConfigurationError if it cannot be used."""
        path, public = self._folder / f"{role}.key", self._folder / f"{role}.pub"
        with _told(path):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                _write_once(
                    path, Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
                )
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigurationError(
                    [f"{path}: others may read this key: chmod 600 it, or remove it and {public.name} to have new ones"]
                )
            key = Ed25519PrivateKey.from_private_bytes(path.read_bytes())
        with _told(public):
            if not public.exists():
                _write_once(public, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex().encode())
        signer = Signer(key)
        if fingerprint(self.public(role)) != signer.fingerprint:
            raise ConfigurationError([f"{public}: is not of the key beside it: remove it to have it made anew"])
        return signer

    def public(self, role: str) -> Ed25519PublicKey:
        """Return the role's public key, making the pair if there is none; raises as `signer` does."""
        path = self._folder / f"{role}.pub"
        with _told(path):
            if not path.exists():
                self.signer(role)
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(path.read_text().strip()))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigurationError([f"{path}: the key cannot be read or made: {exc.strerror}"]) from exc
    except ValueError as exc:
        raise ConfigurationError([f"{path}: is no key: remove it to have a new one"]) from exc


def _write_once(path: Path, content: bytes) -> None:
    """Write a whole file that only its owner can read; of several that try at once, the first one's stays."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.") as fresh:
        fresh.write(content)
        fresh.flush()
        os.fsync(fresh.fileno())  # half a key would keep every service from starting
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(fresh.name)
