"""Our own frames against pamqp's, and the socket that is shared with aio-pika."""

import asyncio
import datetime
from typing import Any

import pamqp.frame
import pytest
from pamqp import body, commands, header
from pamqp.heartbeat import Heartbeat

from exhaust.broker import frames
from exhaust.broker.interface import Publication
from exhaust.broker.tap import FIRST_CHANNEL, Tap
from exhaust.errors import BrokerError


def _unmarshalled(data: bytes) -> list[tuple[int, Any]]:
    found = []
    while data:
        used, channel, frame = pamqp.frame.unmarshal(data)
        found.append((channel, frame))
        data = data[used:]
    return found


def test_publication_is_written_as_amqp_has_it() -> None:
    sent = Publication("x", "a.b", "id", "t/1", bytes(300), 12.5, {"host": "ü", "seq": -3}, expires=1.5)
    (_, method), (_, head), (channel, first), (_, second) = _unmarshalled(frames.publish(70, sent, 208))
    assert (channel, method.exchange, method.routing_key, method.mandatory) == (70, "x", "a.b", True)
    assert (first.value, second.value) == (bytes(200), bytes(100))
    told = head.properties
    assert (head.body_size, told.message_id, told.message_type, told.delivery_mode) == (300, "id", "t/1", 2)
    assert (told.content_type, told.expiration) == ("application/json", "1500")
    assert told.timestamp == datetime.datetime.fromtimestamp(12, datetime.UTC)
    assert told.headers == {"host": "ü", "seq": -3, "x-time": 12_500_000}


@pytest.mark.parametrize(
    "publication",
    [
        Publication("x", "k" * 256, "id", "t", b"", 0.0),
        Publication("x", "k", "i" * 256, "t", b"", 0.0),
        Publication("x", "k", "id", "t", b"", 0.0, {"n" * 256: 1}),
        Publication("x", "k", "id", "t", b"", 0.0, {"n": "v" * 140_000}),
    ],
    ids=["key", "id", "header's name", "headers"],
)
def test_what_amqp_cannot_hold_is_refused(publication: Publication) -> None:
    with pytest.raises(BrokerError):
        frames.publish(70, publication, 131_072)


def test_every_property_of_a_foreign_message_is_stepped_over() -> None:
    told = commands.Basic.Properties(
        content_type="text/plain", content_encoding="gzip", headers={"a": 1.5, "b": "x", "c": [1], "d": True},
        delivery_mode=2, priority=3, correlation_id="c", reply_to="r", expiration="5", message_id="id",
        timestamp=datetime.datetime.fromtimestamp(99, datetime.UTC), message_type="t", user_id="u", app_id="a",
    )  # fmt: skip
    data = pamqp.frame.marshal(header.ContentHeader(0, 7, told), 70)
    content = frames.Content(data, 7)
    assert (content.id, content.type, content.size, content.stamp) == ("id", "t", 7, 99)
    made = frames.delivery(content, b"", "q", "x", "k", redelivered=True)
    assert (made.time, made.headers, made.attempt) == (99.0, {"b": "x", "d": True}, 2)


def test_methods_are_read_as_pamqp_writes_them() -> None:
    deliver = commands.Basic.Deliver("tag", 2**40, True, "x", "a.b")
    assert frames.delivered(pamqp.frame.marshal(deliver, 70), 7) == (2**40, True, "x", "a.b")
    back = commands.Basic.Return(312, "NO_ROUTE", "x", "a.b")
    assert frames.returned(pamqp.frame.marshal(back, 70), 7) == ("x", "a.b")
    assert frames.confirm(pamqp.frame.marshal(commands.Basic.Ack(9, True), 70), 7) == (9, True)
    assert frames.reason(pamqp.frame.marshal(commands.Connection.Blocked("low on memory"), 0), 7) == "low on memory"
    close = commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0)
    assert frames.reason(pamqp.frame.marshal(close, 0), 7) == "CONNECTION_FORCED"
    for written, kind in ((frames.acknowledge, commands.Basic.Ack), (frames.requeue, commands.Basic.Nack)):
        ((channel, frame),) = _unmarshalled(written(70, 5, multiple=True))
        assert (channel, type(frame), frame.delivery_tag, frame.multiple) == (70, kind, 5, True)


class Receiver:
    def __init__(self) -> None:
        self.got: list[tuple[int, bytes]] = []
        self.pieces = 0

    def receive(self, kind: int, data: bytes, start: int, end: int) -> None:
        self.got.append((kind, data[start:end]))

    def received(self) -> None:
        self.pieces += 1

    def lost(self, reason: str) -> None:
        self.got.append((-1, reason.encode()))


async def _tap() -> tuple[Tap, Receiver, asyncio.StreamReader]:
    reader = asyncio.StreamReader()
    tap = Tap(reader, asyncio.get_running_loop())
    receiver = Receiver()
    tap.receivers[FIRST_CHANNEL] = receiver
    return tap, receiver, reader


async def test_incoming_bytes_are_split_by_channel_however_they_are_cut() -> None:
    tap, receiver, reader = await _tap()
    foreign = pamqp.frame.marshal(commands.Channel.OpenOk(), 1)
    one, two = (pamqp.frame.marshal(body.ContentBody(text), FIRST_CHANNEL) for text in (b"one", b"two"))
    stream = one + foreign + two + foreign
    for at in range(len(stream)):
        tap.data_received(stream[at : at + 1])
    assert receiver.got == [(frames.BODY, b"one"), (frames.BODY, b"two")]
    assert (await reader.read(10_000)).replace(frames.ALIVE, b"") == foreign * 2


async def test_busy_channels_count_as_a_sign_of_life() -> None:
    tap, receiver, reader = await _tap()
    tap.data_received(pamqp.frame.marshal(body.ContentBody(b"x"), FIRST_CHANNEL) * 3)
    assert receiver.pieces == 1
    assert isinstance(pamqp.frame.unmarshal(await reader.read(100))[2], Heartbeat)


async def test_alarm_is_seen_in_passing() -> None:
    tap, _, reader = await _tap()
    tap.data_received(blocked := pamqp.frame.marshal(commands.Connection.Blocked("memory"), 0))
    seen = [tap.blocked]
    tap.data_received(unblocked := pamqp.frame.marshal(commands.Connection.Unblocked(), 0))
    assert [*seen, tap.blocked] == [True, False]
    assert await reader.read(1000) == blocked + unblocked
