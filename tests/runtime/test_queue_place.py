"""What is prepared before qmail-send gives up root."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ekiden.runtime.privilege import identities
from ekiden.runtime.queue_place import CannotServe, prepare


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_lock_sockets_and_directories(place: Path) -> None:
    (place / "queue").mkdir(mode=0o700)
    (place / "queue" / "queue.sqlite").touch(0o644)
    made = prepare(place, identities(place))
    assert {name: mode(place / "run" / name) for name in made.sockets} == {
        "intake": 0o600,
        "inject": 0o666,
        "control": 0o600,
    }
    assert int((place / "run" / "lock").read_text()) == os.getpid()
    assert mode(place / "queue") == mode(place / "queue" / "mess" / "22") == 0o750
    # qmailr's group may search the directory for messages, and must not read the store there.
    assert mode(place / "queue" / "queue.sqlite") == 0o600
    with pytest.raises(CannotServe, match="already running"):
        prepare(place, identities(place))


def test_who_serves_is_told(place: Path) -> None:
    made = prepare(place, identities(place))
    made.tell({"qmail-send": 17, "qmail-clean": 18})
    made.reloaded()
    told = json.loads((place / "run" / "roles").read_text())
    assert (told["supervisor"], told["generation"]) == (os.getpid(), 2)
    assert [(role["role"], role["pid"]) for role in told["roles"]] == [("qmail-send", 17), ("qmail-clean", 18)]


def test_a_home_that_is_none(place: Path) -> None:
    (place / "run").write_text("in the way")
    with pytest.raises(CannotServe, match="run"):
        prepare(place, identities(place))
