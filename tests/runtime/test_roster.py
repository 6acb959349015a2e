"""Who may connect to the queue's sockets."""

from __future__ import annotations

import pytest

from ekiden.runtime.packets import channel
from ekiden.runtime.roster import Roster, tell

ROLES = {10: "smtpd", 11: "remote", 12: "local", 13: "keeper"}


@pytest.mark.parametrize(
    ("name", "admitted"),
    [("intake", {10}), ("remote", {11}), ("local", {12}), ("control", {99}), ("inject", {10, 11, 12, 13, 99})],
)
def test_each_socket_is_for_its_role(name: str, admitted: set[int]) -> None:
    ours, theirs = channel()
    with ours, theirs:
        roster = Roster(theirs)
        tell(ours, ROLES)

        assert {pid for pid in (*ROLES, 99) if roster.admits(pid, name)} == admitted


def test_the_last_word_counts_and_outlives_whoever_spoke() -> None:
    ours, theirs = channel()
    with theirs:
        roster = Roster(theirs)
        with ours:
            tell(ours, ROLES)
            tell(ours, {20: "smtpd"})
            assert roster.admits(20, "intake")
        assert not roster.admits(10, "intake")
        assert roster.admits(20, "intake")


def test_nobody_waits_for_a_queue_that_does_not_listen() -> None:
    ours, theirs = channel()
    with ours, theirs:
        for _ in range(100_000):
            tell(ours, ROLES)
        roster = Roster(theirs)
        assert roster.admits(11, "remote")
        tell(ours, {21: "remote"})
        assert roster.admits(21, "remote")


def test_without_a_supervisor_everybody_is_admitted() -> None:
    assert Roster(None).admits(1, "control")
