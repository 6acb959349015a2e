"""Counting over processes: the sums are right whatever happens, and a dead process counts for nothing."""

from __future__ import annotations

import os
import time

from hypothesis import given
from hypothesis import strategies as st

from ekiden.runtime import census
from ekiden.runtime.census import Census, Table

MOVES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["*:25", "[::1]:587"]), st.sampled_from(["192.0.2.1", "::1"]))
)


@given(MOVES)
def test_everybody_sees_the_same(moves: list[tuple[int, str, str]]) -> None:
    table = Table(3)
    counting = [Census(table, table.column()) for _ in range(3)]
    present = []
    for process, listener, client in moves:
        at_listener, of_client = counting[process].enter(listener, client)
        present.append((process, listener, client))
        assert at_listener == sum(listener == other for _, other, _ in present)
        assert of_client == sum(client == other for _, _, other in present)
    for process, listener, client in present:
        counting[process].leave(listener, client)
    assert counting[0].enter("*:25", "192.0.2.1") == (1, 1)


def test_own_clients_are_never_taken_for_each_other() -> None:
    counting = Census()
    for number in range(3 * census.CLIENTS):
        assert counting.enter("*:25", str(number)) == (number + 1, 1)


def test_children_share_it_and_the_dead_are_forgotten() -> None:
    table = Table(2)
    here = Census(table, table.column())
    column = table.column()
    assert table.full
    child = os.fork()
    if not child:
        there = Census(table, column)
        for _ in range(5):
            there.enter("*:25", "192.0.2.1")
        time.sleep(60)
        os._exit(0)
    try:
        deadline = time.monotonic() + 60
        while here.enter("*:25", "192.0.2.1") != (6, 6):
            here.leave("*:25", "192.0.2.1")
            assert time.monotonic() < deadline
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    table.clear(column)
    assert here.enter("*:25", "192.0.2.1") == (2, 2)
    assert not table.full
