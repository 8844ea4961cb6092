"""What could not be handled, to those who ask: listed, shown whole, and sent again to the queue that refused it."""

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from collector.access import Need
from collector.answers import answer
from collector.body import decoded
from collector.letters import KIND, Letter, body_key, letter_key
from collector.model import ReadModel
from collector.pages import Page, page, read_query
from collector.refusal import Refusal, unknown
from exhaust.broker.handling import DEAD
from exhaust.broker.interface import Broker
from exhaust.errors import BrokerError, UnroutableError
from exhaust.resending import resent
from exhaust.routing import QUEUES, agent_queue, control_queue
from exhaust.signing import Signer
from exhaust.store import Store
from exhaust.worker import Effect

# What is sent again may run a workflow: who may have it run may do that.
RESEND = Need("trigger")
_CONFIRM_WITHIN = 5.0
_OURS = frozenset(queue.name for queues in QUEUES.values() for queue in queues) - {DEAD}
_OF_HOSTS = tuple(queue("").name for queue in (agent_queue, control_queue))

Put = Callable[[Iterable[Effect]], None]
_FIELDS = [field.name for field in msgspec.structs.fields(Letter)]


class DeadLetters:
    """The dead letters of the read model; `put` makes durable what becomes of one."""

    def __init__(self, model: ReadModel, store: Store, broker: Broker, signer: Signer, put: Put) -> None:
        self._model = model
        self._store = store
        self._broker = broker
        self._signer = signer
        self._put = put

    async def page(self, request: web.Request) -> Page:
        """Return the next ones, the newest first, without their bodies."""
        query = read_query("dead letter", _FIELDS, request.query.items())
        return await page(self._store, KIND, self._model.letters.shelf, query)

    async def find(self, request: web.Request) -> web.Response:
        """Answer with one as it is: its body as `body` where it is JSON, else as `text`, else as `base64`."""
        letter, body = self._found(request)
        return answer({**msgspec.to_builtins(letter), **_shown(body)})

    async def resend(self, request: web.Request) -> web.Response:
        """Answer once the queue has it: then it is no dead letter any more, unless its reader refuses it again."""
        letter, body = self._found(request)
        if letter.queue not in _OURS and not letter.queue.startswith(_OF_HOSTS):
            raise Refusal(409, "Conflict", f"'{letter.queue[:80]}' is no queue of ours: nothing is sent there")
        attempts = letter.attempts + 1
        try:
            async with asyncio.timeout(_CONFIRM_WITHIN):
                await self._broker.publish(resent(letter.delivery(body), attempts, self._signer))
        except UnroutableError as exc:
            raise Refusal(409, "Conflict", f"it stays here: {exc}") from exc
        except (BrokerError, TimeoutError) as exc:
            why = str(exc) or f"no confirm within {_CONFIRM_WITHIN:g} s"
            raise Refusal(503, "Service Unavailable", f"it stays here, and may have been sent: {why}") from exc
        self._put(self._model.redeem(letter))
        return answer({"id": letter.id, "queue": letter.queue, "attempts": attempts})

    def _found(self, request: web.Request) -> tuple[Letter, bytes]:
        name = request.match_info["id"]
        letter, body = self._store.get(letter_key(name)), self._store.get(body_key(name))
        if letter is None or body is None:
            raise unknown(f"no dead letter is called '{name[:100]}'")
        return msgspec.json.decode(letter, type=Letter), msgspec.json.decode(body, type=bytes)


def _shown(body: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        return {"body": decoded(body)}
    with contextlib.suppress(UnicodeDecodeError):
        return {"text": body.decode()}
    return {"base64": base64.b64encode(body).decode()}
