"""Programs with checkpassword's interface that do not keep to it."""

from __future__ import annotations

import pytest

from ekiden.runtime.passwords import program as password_program
from ekiden.runtime.passwords.secret import Unavailable

SLEEP = "sleep 60"


@pytest.mark.parametrize("line", [SLEEP, f"exec >&-; {SLEEP}", f"cat <&3; exec >&-; {SLEEP}"])
def test_a_program_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(password_program, "SECONDS", 0.5)
    with pytest.raises(Unavailable, match="/bin/sh: signal 9"):
        password_program.ask([b"/bin/sh", b"-c", line.encode()], b"jiro", b"secret", b"")


def test_what_a_program_says_counts_only_if_it_ends_well() -> None:
    with pytest.raises(Unavailable, match="exit code 111"):
        password_program.ask([b"/bin/sh", b"-c", b"exit 111"], b"jiro", b"secret", b"")
    assert password_program.ask([b"/bin/sh", b"-c", b"exit 1"], b"jiro", b"wrong", b"") is None
