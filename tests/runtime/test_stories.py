"""Stories put together from log, ledger and queue: their order, what fits, and how much is held in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ekiden.runtime import stories as module
from ekiden.runtime.control_frames import ControlAnswer, ControlRequest, Ledger, List, Rows
from ekiden.runtime.stories import Wanted, in_order, stories, stories_of

Event = dict[str, Any]


def event(word: str, time: float, **fields: Any) -> Event:
    return {"time": time, "event": word, "message": 1, **fields}


def end(word: str, time: float, recipient: str, report: str = "", status: str = "2.0.0") -> Event:
    told = word == "failed"
    return event(word, time, recipient=recipient, report=report, status=status, remote="", told=told)


CAME = event("came in", 100.3, sender="a@b", protocol="ESMTP", message_id="")


def words(story: list[Event]) -> list[str]:
    return [f"{one['event']} {one.get('recipient', '')}".strip() for one in story]


def test_ends_follow_their_attempts_whatever_the_clock_says() -> None:
    """The log's lines bear the time of the first of their batch; the clock was set back before the second attempt."""
    logged = [
        event("new", 100.0),
        event("starting", 100.0, recipient="x@y"),
        event("deferral", 100.1, recipient="x@y"),
        event("starting", 50.0, recipient="x@y"),
        event("success", 50.0, recipient="x@y"),
        event("end", 50.0),
    ]
    story = in_order(logged, [CAME, end("delivered", 50.2, "x@y")])
    assert words(story) == [
        *("came in", "new", "starting x@y", "deferral x@y", "starting x@y", "success x@y", "delivered x@y", "end"),
    ]


def test_the_same_recipient_twice_and_again_after_a_crash() -> None:
    logged = [event("success", float(number), recipient="x_1@y") for number in range(3)]
    story = in_order(logged, [end("delivered", 9.0, "x 1@y", "first"), end("delivered", 9.0, "x 1@y", "second")])
    assert [one.get("report", "log") for one in story] == ["log", "log", "first", "log", "second"]


def test_what_an_administrator_ended() -> None:
    logged = [
        event("administrator", 5.0, action="bounce", user="root"),
        event("bounce", 5.0, notice=2),
        event("end", 5.0),
    ]
    ends = [end("failed", 5.1, name, "returned by root", "") for name in ("x@y", "z@y")]
    told = event("bounce", 5.1, notice=2)
    assert words(in_order(logged, [*ends, told])) == ["administrator", "failed x@y", "failed z@y", "bounce", "end"]


def test_what_the_log_does_not_reach_stands_by_its_time() -> None:
    booked = [CAME, end("failed", 200.0, "x@y"), event("bounce", 200.0, notice=7), end("delivered", 300.0, "z@y")]
    logged = [event("starting", 250.0, recipient="z@y"), event("success", 299.0, recipient="z@y")]
    assert words(in_order(logged, booked)) == [
        *("came in", "failed x@y", "bounce", "starting z@y", "success z@y", "delivered z@y"),
    ]


def test_a_notice_tells_whose_it_is() -> None:
    """By the line of the log, and without a log by the Message-ID that the queue gave it."""
    name = "<20261130034100.17.f9b8e64c.bounce@ekiden.example>"
    came = event("came in", 1.0, sender="", protocol="bounce", message_id=name)
    assert in_order([], [came])[1] == {"time": 1.0, "event": "notice", "message": 1, "of": 17}
    assert words(in_order([], [came | {"protocol": "ESMTP"}])) == ["came in"], "anybody may call a message so"
    logged = [event("new", 1.0), event("notice", 1.0, of=16)]
    assert [one.get("of") for one in in_order(logged, [came])] == [None, 16, None]


REFUSED = {"time": 5.0, "event": "refuse", "client": "192.0.2.1", "sender": "", "recipient": ""}
FITTING: list[tuple[dict[str, str], Event, bool]] = [
    ({"sender": ""}, event("info", 1.0, sender=""), True),
    ({"sender": ""}, event("new", 1.0), False),
    ({"sender": ""}, REFUSED, False),
    ({"sender": ""}, REFUSED | {"recipient": "x@y"}, True),
    ({"sender": "*"}, event("info", 1.0, sender=""), True),
    ({"recipient": "*"}, REFUSED, False),
    ({"recipient": "x@[192.0.2.1]"}, event("starting", 1.0, recipient="X@[192.0.2.1]"), True),
    ({"message_id": "[1]@y"}, event("came in", 1.0, message_id="<[1]@y>"), True),
    ({"remote": "192.0.2.1"}, REFUSED, True),
    ({"remote": "192.0.2.1"}, event("success", 1.0, report="192.0.2.1_accepted_message./"), True),
    ({"remote": "192.0.2.1"}, event("deferral", 1.0, report="Connected_to_192.0.2.1_but_greeting_failed./"), True),
    ({"remote": "192.0.2.1"}, event("deferral", 1.0, report="Connected to 192.0.2.1 but connection died. "), True),
    ({"remote": "192.0.2.1"}, event("delivered", 1.0, remote="[192.0.2.1]", report=""), True),
    ({"remote": "2001:db8::1"}, event("delivered", 1.0, remote="[2001:db8::1]"), True),
    ({"remote": "192.0.2.1"}, event("waits", 1.0, destination="[192.0.2.1]:2525", report=""), True),
    ({"remote": "relay.example"}, event("waits", 1.0, destination="lmtp:relay.example:24", report=""), True),
    ({"remote": "192.0.2.2"}, event("success", 1.0, report="192.0.2.1_accepted_message./"), False),
]


@pytest.mark.parametrize(("asked", "what", "fits"), FITTING)
def test_what_fits(asked: dict[str, str], what: Event, fits: bool) -> None:
    wanted = Wanted({name: [pattern] for name, pattern in asked.items()}, None, None)
    assert (wanted.fits(what) == wanted.all) == fits


def test_only_what_happened_is_in_a_range_of_time() -> None:
    wanted = Wanted({}, 10.0, 20.0)
    assert [wanted.fits(event("success", time)) for time in (9.9, 10.0, 20.0, 20.1)] == [0, 1, 1, 0]
    assert not wanted.fits(event("waits", 15.0)), "it is so now, whenever now is"


class Books:
    """Answers as the queue does, three rows a page."""

    def __init__(self, ended: list[int], waiting: list[int]) -> None:
        self.asked: list[ControlRequest] = []
        self._ended, self._waiting = ended, waiting

    def __call__(self, request: ControlRequest) -> ControlAnswer:
        self.asked.append(request)
        assert isinstance(request, Ledger | List)
        ids = self._ended if isinstance(request, Ledger) else self._waiting
        page = [number for number in ids if number > request.after][:3]
        make = _ended if isinstance(request, Ledger) else _waits
        return Rows([json.dumps(make(number)).encode() for number in page], page[-1] if len(page) == 3 else 0)


def _began(number: int) -> Event:
    known = {"sender": "a@b", "bytes": 1, "protocol": "ESMTP", "client": "", "helo": "", "uid": 0, "message_id": ""}
    return {"id": number, "birth": 1.0, "qp": 1, **known}


def _ended(number: int) -> Event:
    gone = {"recipient": "x@y", "end": "delivered", "status": "", "report": "", "remote": "", "told": False}
    return {"at": 2.0, "ends": [gone], "recipients": 1, **_began(number)}


def _waits(number: int) -> Event:
    part = {"recipient": "x@y", "destination": "y", "attempts": 0, "due": None, "last": ""}
    return {"held": False, "recipients": [part], **_began(number)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    lines = []
    for number in range(1, 21):
        lines.append(f"1.5 new msg {number}\n1.5 starting delivery {number}: msg {number} to remote x@y\n")
    lines += [f"1.9 delivery {number}: success: fine\n" for number in range(1, 21)]
    (tmp_path / "log" / "ekiden.log").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("kept", [4, 30, 1000])
def test_all_stories_come_whatever_is_held_at_once(home: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(module, "KEPT", kept)
    books = Books(ended=list(range(1, 15)), waiting=[15, 18, 30])
    told = list(stories(home, books, Wanted({"recipient": ["x@*"]}, None, None)))
    assert [story[0]["message"] for story in told] == [*range(1, 21), 30]
    assert words(told[0]) == ["came in", "new", "starting x@y", "success x@y", "delivered x@y"]
    assert words(told[17])[0] == "came in" and words(told[17])[-1] == "waits x@y"
    assert words(told[19]) == ["new", "starting x@y", "success x@y"]


def test_one_message_is_asked_for_alone(home: Path) -> None:
    books = Books(ended=list(range(1, 15)), waiting=[15])
    (story,) = stories_of(home, books, [7])
    assert words(story)[-1] == "delivered x@y"
    assert books.asked[0] == Ledger(6, 7)
    assert isinstance(books.asked[1], List) and (books.asked[1].after, books.asked[1].limit) == (6, 1)
    assert list(stories_of(home, books, [99])) == []


def test_a_number_that_no_message_can_have_is_passed_over(home: Path) -> None:
    log = home / "log" / "ekiden.log"
    log.write_text(log.read_text() + f"3.0 new msg {1 << 63}\n3.0 new msg 0\n")
    assert list(stories(home, Books([], []), Wanted({}, 2.5, None))) == []
