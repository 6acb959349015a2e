"""How long those who guess passwords wait."""

from __future__ import annotations

from ekiden.runtime.passwords.throttle import (
    ADDRESS_SECONDS,
    FORGOTTEN_SECONDS,
    FREE,
    REMEMBERED,
    TOO_LONG,
    USER_SECONDS,
    Throttle,
)

HERE, THERE = "192.0.2.1", "192.0.2.2"


def fail(throttle: Throttle, times: int, address: str = HERE, user: bytes = b"jiro", now: float = 0.0) -> None:
    for _ in range(times):
        throttle.failed(address, user, now)


def test_mistyping_costs_nothing() -> None:
    throttle = Throttle()
    fail(throttle, FREE)
    assert throttle.wait(HERE, b"jiro", 0.0) == 0


def test_every_failure_doubles_the_wait_of_the_address() -> None:
    throttle = Throttle()
    waits = []
    for moment in range(9):
        fail(throttle, FREE + 1 if not moment else 1, user=b"%d" % moment, now=moment * 200.0)
        waits.append(throttle.wait(HERE, b"other", moment * 200.0))
    assert waits == [1, 2, 4, 8, 16, 32, ADDRESS_SECONDS, ADDRESS_SECONDS, ADDRESS_SECONDS]


def test_attempts_of_one_address_wait_in_line_and_too_many_are_refused() -> None:
    throttle = Throttle()
    fail(throttle, FREE + 6)
    waits = [throttle.wait(HERE, b"x%d" % number, 0.0) for number in range(6)]
    assert waits == [32, 64, 96, None, None, None]
    assert TOO_LONG < 128


def test_a_user_is_never_locked_out_from_elsewhere() -> None:
    throttle = Throttle()
    fail(throttle, 1000)
    assert throttle.wait(THERE, b"jiro", 0.0) == USER_SECONDS
    assert throttle.wait(THERE, b"taro", 0.0) == 0


def test_the_right_password_forgives_the_user_and_not_the_address() -> None:
    throttle = Throttle()
    fail(throttle, FREE + 1)
    throttle.succeeded(b"jiro")
    assert throttle.wait(THERE, b"jiro", 0.0) == 0
    assert throttle.wait(HERE, b"jiro", 0.0) == 1


def test_it_is_forgotten_after_a_while() -> None:
    throttle = Throttle()
    fail(throttle, 10)
    assert throttle.wait(HERE, b"jiro", FORGOTTEN_SECONDS + 1) == 0


def test_memory_is_bounded() -> None:
    throttle = Throttle()
    for number in range(REMEMBERED + 5):
        fail(throttle, 1, address=str(number), user=b"%d" % number)
    assert len(throttle._addresses) == len(throttle._users) == REMEMBERED
