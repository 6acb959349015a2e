"""mailsubj and datemail."""

from __future__ import annotations

from tests.programs.conftest import Site


def test_mailsubj(recorded: Site) -> None:
    done = recorded.run("mailsubj", "a  subject", "a", "b@c.d", data=b"From: this is text\n\nx")
    assert (done.returncode, done.stderr) == (0, b"")
    assert recorded.envelope[1] == [b"b@c.d", b"a@indy2.nix.co.jj"]
    head, _, body = recorded.message.partition(b"\n\n")
    assert head.endswith(b"\nSubject: a  subject\nTo: a@indy2.nix.co.jj, b@c.d")
    assert body == b"From: this is text\n\nx\n"


def test_mailsubj_needs_a_subject(recorded: Site) -> None:
    assert recorded.run("mailsubj").returncode == 100


def test_datemail_writes_the_local_date(recorded: Site) -> None:
    assert recorded.run("datemail", "-t", data=b"To: a\n\n", TZ="JST-9").returncode == 0
    dates = [line for line in recorded.message.splitlines() if line.startswith(b"Date: ")]
    assert len(dates) == 1 and dates[0].endswith(b" +0900")
    assert recorded.run("datemail", data=b"To: a\n\n").returncode == 100


def test_mailsubj_uses_another_program_in_qmail_injects_place(site: Site) -> None:
    program = site.home / "bin" / "qmail-inject"
    program.unlink()
    program.write_text('#!/bin/sh\necho "$#"; cat; exit 7\n')
    program.chmod(0o755)
    done = site.run("mailsubj", "a  subject", "a", "b", data=b"x\r\n")
    assert done.stdout == b"0\nSubject: a  subject\nTo: a b\n\nx\r\n"
    assert (done.returncode, done.stderr) == (7, b"")
    program.chmod(0o644)
    assert site.run("mailsubj", "s", "a").returncode == 111
