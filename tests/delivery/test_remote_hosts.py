from __future__ import annotations

from ekiden.delivery import remote_hosts
from ekiden.delivery.remote_hosts import CAPACITY, HostMemory, Timeouts

A = "192.0.2.1"


def test_two_timeouts_two_minutes_apart_make_an_address_dead() -> None:
    memory = HostMemory(3600)
    assert memory.timed_out(A, 1000) == Timeouts(1000, 1)
    assert not memory.is_dead(A, 1001)
    assert memory.timed_out(A, 1100) is None, "too soon to say anything new"
    assert not memory.is_dead(A, 1101)
    assert memory.timed_out(A, 1121) == Timeouts(1121, 2)
    assert memory.is_dead(A, 1122)
    assert memory.is_dead(A, 1121 + 3599)
    assert not memory.is_dead(A, 1121 + 3600)


def test_an_answer_forgets() -> None:
    memory = HostMemory(3600)
    assert not memory.answered(A)
    memory.timed_out(A, 0)
    assert memory.answered(A)
    assert memory.timed_out(A, 500) == Timeouts(500, 1)


def test_others_findings_count() -> None:
    memory = HostMemory(3600)
    memory.learn(A, Timeouts(0, 2))
    assert memory.is_dead(A, 1)
    memory.learn(A, Timeouts(0, 0))
    assert not memory.is_dead(A, 1)


def test_counts_and_addresses_are_bounded() -> None:
    memory = HostMemory(3600)
    for number in range(20):
        last = memory.timed_out(A, number * 1000.0)
    assert last is not None
    assert last.count == 10
    for number in range(CAPACITY):
        memory.learn(str(number), Timeouts(1e6 + number, 2))
    assert not memory.is_dead(A, 19_001)
    assert memory.is_dead("0", 1e6)
    assert len(memory._known) == remote_hosts.CAPACITY


def test_no_memory_at_all() -> None:
    memory = HostMemory(0)
    assert memory.timed_out(A, 0) is None
    assert memory.timed_out(A, 1000) is None
    assert not memory.is_dead(A, 1001)


def test_a_clock_that_is_set_back_leaves_no_address_dead() -> None:
    memory = HostMemory(3600)
    memory.timed_out(A, 1e9)
    memory.timed_out(A, 1e9 + 200)
    assert memory.is_dead(A, 1e9 + 300)
    assert not memory.is_dead(A, 5e8)
    assert memory.timed_out(A, 5e8) == Timeouts(5e8, 1)
