"""Outcomes as they come from processes that may have been taken over."""

from __future__ import annotations

import msgspec
import pytest

from ekiden.base.outcome import Outcome, Verdict
from ekiden.runtime.frames import DeliveryAnswer, Report


@pytest.mark.parametrize("verdict", [-1, 3, 2**63, True, "0", None])
def test_a_report_can_only_say_what_there_is(verdict: object) -> None:
    """The queue closes the connection at a frame that it cannot decode, and defers what that process had in hand."""
    decode = msgspec.msgpack.Decoder(DeliveryAnswer).decode
    encoded = msgspec.msgpack.encode([11, 1, [[verdict, "2.0.0", "ok"]], False])

    with pytest.raises(msgspec.ValidationError):
        decode(encoded)


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_can_be_reported(verdict: Verdict) -> None:
    report = Report(1, [Outcome(verdict, "2.0.0", "ok")])

    assert msgspec.msgpack.Decoder(DeliveryAnswer).decode(msgspec.msgpack.encode(report)) == report
