"""control/remoteauth: what it says, and what happens while it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.outcome import Verdict
from ekiden.delivery.remote_logins import Logins, parse
from ekiden.settings.schema import Settings

GOOD = b"# ours\nRelay.example:587 jiro  secret word \n[192.0.2.1] a,b=c x\n"


def logins(path: Path, raw: bytes) -> Logins:
    path.write_bytes(raw)
    return Logins(Settings(me=b"x", remoteauth=str(path), remoteport=2525, remoteauthiterations=4096))


def test_logins_are_found_by_the_destination_that_smtproutes_gives(tmp_path: Path) -> None:
    file = logins(tmp_path / "remoteauth", GOOD)
    found = file.find(b"relay.example:587")
    assert found is not None
    assert (found.user, found.password) == (b"jiro", b"secret word")
    again = file.find(b"relay.example:587")
    assert again is not None
    assert again.nonce != found.nonce
    assert file.find(b"[192.0.2.1]:2525") is not None
    assert file.find(b"relay.example:25") is file.find(b"relay.example") is None
    assert file.why_not(b"relay.example:587") is None


def test_without_the_file_nobody_logs_in() -> None:
    nobody = Logins(Settings(me=b"x"))
    assert nobody.find(b"relay.example:25") is nobody.why_not(b"relay.example:25") is None


@pytest.mark.parametrize(
    "raw", [b"relay.example jiro\n", GOOD + b"relay.example:587 hana word\n", b"[x] a b\n", None]
)
def test_a_file_that_cannot_be_used_holds_back_mail_for_smart_hosts_alone(tmp_path: Path, raw: bytes | None) -> None:
    path = tmp_path / "remoteauth"
    file = Logins(Settings(me=b"x", remoteauth=str(path))) if raw is None else logins(path, raw)
    outcome = file.why_not(b"relay.example:587")
    assert outcome is not None
    assert outcome.verdict == Verdict.DEFERRED
    assert "control/remoteauth" in outcome.text
    assert file.why_not(b"far.example") is None


@given(st.binary(max_size=60))
def test_any_octets_are_logins_or_complaints(raw: bytes) -> None:
    lines, problems = parse(raw, 25)
    assert all(user and password for user, password in lines.values())
    assert all(problem.line and not problem.fatal for problem in problems)
