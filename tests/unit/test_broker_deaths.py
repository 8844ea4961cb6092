"""Why a message is a dead letter: what a broker notes of it, and what its publisher may have written."""

from typing import Any

import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from collector.letters import Letter, read_letter
from exhaust.broker import frames

DEATH = {"reason": "delivery_limit", "queue": "q", "exchange": "exhaust.telemetry", "routing-keys": ["h.e.s"]}
FIRST = {"x-first-death-reason": "maxlen", "x-last-death-queue": "q"}


def letter(**headers: Any) -> Letter:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    properties = Basic.Properties(message_id="m", message_type="batch/1", headers=told)
    content = frames.Content(ContentHeader(0, 2, properties).marshal(), 0)
    return read_letter(frames.delivery(content, b"{}", "dead", "exhaust.dead", "k", redelivered=False), 0.0)


@pytest.mark.parametrize("reason", sorted(frames.DEATHS))
def test_a_reason_that_a_publisher_wrote_is_not_the_brokers(reason: str) -> None:
    forged: tuple[dict[str, Any], ...] = ({}, {"x_death": []}, {"x_death": "yes"})
    for more in forged:
        found = letter(x_reason=reason, x_queue="q", **more)
        assert (found.by_broker, found.reason) == (False, f"{reason}, as its publisher says")


def test_what_the_broker_notes_is_taken_whatever_the_publisher_wrote_before() -> None:
    for more in ({}, {"x_reason": "unusable", "x_queue": "other"}):
        found = letter(x_death=[DEATH], **FIRST, **more)
        assert (found.by_broker, found.reason, found.queue) == (True, "delivery_limit", "q")
        assert found.headers == {}


def test_a_reason_of_a_reader_is_kept_and_one_that_is_no_text_is_none() -> None:
    assert letter(x_reason="failed: a bug").reason == "failed: a bug"
    assert not letter(x_reason=["expired"]).by_broker
