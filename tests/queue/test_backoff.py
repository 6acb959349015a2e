import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.queue.backoff import LONGEST_PAUSE, expired, longest_wait, next_attempt, pause


@pytest.mark.parametrize(
    ("age", "skip", "due"),
    [
        (0, 20, 400),  # qmail's table for remote mail: 400, 1600, 3600, 6400 seconds ...
        (400, 20, 1600),
        (1600, 20, 3600),
        (3600, 20, 6400),
        (0, 10, 100),  # and for local mail
        (100, 10, 400),
        (86400, 20, 97969),
    ],
)
def test_retries_are_quadratic_in_age(age: int, skip: int, due: int) -> None:
    assert next_attempt(1000.0, 1000.0 + age, skip) == 1000.0 + due


@given(st.floats(0, 4e9), st.floats(-1e9, 1e7), st.integers(1, 100))
def test_the_next_attempt_comes_and_is_not_far_off_whatever_the_clock_did(
    birth: float, age: float, skip: int
) -> None:
    now = birth + age
    due = next_attempt(birth, now, skip)
    assert now < due <= now + longest_wait(10_000_000, skip) + 1


def test_expiry_is_counted_from_birth() -> None:
    assert not expired(1000.0, 1000.0 + 604800, 604800)
    assert expired(1000.0, 1001.0 + 604800, 604800)


def test_pauses_double_up_to_a_limit() -> None:
    assert [pause(n) for n in (1, 2, 3)] == [10, 20, 40]
    assert pause(50) == LONGEST_PAUSE
