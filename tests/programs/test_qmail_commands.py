"""The programs for .qmail files: bouncesaying, condredirect, except, forward, preline, qsmhook, qreceipt, qbiff."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from tests.programs.conftest import Site

from ekiden.programs import qbiff

COMMAND = {
    "SENDER": "s@x.example",
    "NEWSENDER": "owner@x.example",
    "DTLINE": "Delivered-To: me@y.example\n",
    "RPLINE": "Return-Path: <s@x.example>\n",
    "UFLINE": "From s@x.example Mon Nov 23 05:00:00 2026\n",
    "LOCAL": "me-ext",
    "HOST": "y.example",
}


def sh(code: str) -> list[str]:
    return ["sh", "-c", code]


@pytest.mark.parametrize(
    ("program", "argv", "code", "said"),
    [
        ("except", [], 100, b"except: usage: "),
        ("except", sh("exit 0"), 100, b""),
        ("except", sh("exit 1"), 0, b""),
        ("except", sh("exit 111"), 111, b"except: fatal: temporary child error\n"),
        ("except", sh("kill -9 $$"), 111, b"except: fatal: child crashed\n"),
        ("except", ["/nonexistent"], 0, b""),
        ("bouncesaying", [], 100, b"bouncesaying: usage: "),
        ("bouncesaying", ["Gone."], 100, b"Gone.\n"),
        ("bouncesaying", ["Gone.", *sh("grep -q hi")], 100, b"Gone.\n"),
        ("bouncesaying", ["Gone.", *sh("grep -q ho")], 0, b""),
        ("bouncesaying", ["Gone.", "/nonexistent"], 0, b""),
        ("bouncesaying", ["Gone.", *sh("exit 111")], 111, b"bouncesaying: fatal: temporary child error\n"),
        ("bouncesaying", ["Gone.", *sh("kill -9 $$")], 111, b"bouncesaying: fatal: child crashed\n"),
        ("condredirect", ["a"], 100, b"condredirect: usage: "),
        ("condredirect", ["a", *sh("exit 1")], 0, b""),
        ("condredirect", ["a", *sh("exit 111")], 111, b"condredirect: fatal: temporary child error\n"),
        ("condredirect", ["a", *sh("kill -9 $$")], 111, b"condredirect: fatal: child crashed\n"),
    ],
)
def test_deciding_by_a_programs_exit_code(
    recorded: Site, program: str, argv: list[str], code: int, said: bytes
) -> None:
    done = recorded.run(program, *argv, data=b"Subject: hi\n\n")
    assert done.returncode == code
    assert done.stderr.startswith(said) if said else not done.stderr
    assert not (recorded.place / "message").exists()


def from_file(site: Site, program: str, *argv: str, **environment: str) -> int:
    """Run with the message as a file at descriptor 0, as qmail-local does."""
    import subprocess

    (site.place / "given").write_bytes(b"Subject: hi\n\nx\n")
    with open(site.place / "given", "rb") as message:
        done = subprocess.run(
            [site.home / "bin" / program, *argv],
            stdin=message,
            env={**site.environment, **environment},
            timeout=60,
        )
    return done.returncode


def test_condredirect_forwards_the_whole_message(recorded: Site) -> None:
    assert from_file(recorded, "condredirect", "new@z.example", *sh("grep -q hi"), **COMMAND) == 99
    assert recorded.envelope == (b"s@x.example", [b"new@z.example"])
    assert recorded.message == b"Delivered-To: me@y.example\nSubject: hi\n\nx\n"


@pytest.mark.parametrize("program", ["forward", "condredirect"])
def test_forwarding_needs_its_variables_and_a_queue(site: Site, program: str) -> None:
    argv = ["a@b.c", "true"] if program == "condredirect" else ["a@b.c"]
    site.record()
    for name in ("DTLINE", "SENDER" if program == "condredirect" else "NEWSENDER"):
        assert from_file(site, program, *argv, **{key: COMMAND[key] for key in COMMAND if key != name}) == 100
    for code, exit_code in ((31, 100), (71, 111)):
        site.record(code)
        assert from_file(site, program, *argv, **COMMAND) == exit_code


def test_forward(recorded: Site) -> None:
    done = recorded.run("forward", "a@b.c", "d@e.f", data=b"Subject: hi\n\nx\n", **COMMAND)
    assert done.returncode == 0
    assert done.stderr.startswith(b"forward: qp ")
    assert recorded.envelope == (b"owner@x.example", [b"a@b.c", b"d@e.f"])
    assert recorded.message == b"Delivered-To: me@y.example\nSubject: hi\n\nx\n"


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ([], ["UFLINE", "RPLINE", "DTLINE"]),
        (["-f"], ["RPLINE", "DTLINE"]),
        (["-rd"], ["UFLINE"]),
        (["-frdR"], ["RPLINE"]),
    ],
)
def test_preline(site: Site, options: list[str], lines: list[str]) -> None:
    done = site.run("preline", *options, "cat", "-", data=b"Subject: hi\n\nx", **COMMAND)
    assert done.stdout.decode() == "".join(COMMAND[name] for name in lines) + "Subject: hi\n\nx"
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("argv", "missing", "code"),
    [
        ([], "", 100),
        (["-x", "cat"], "", 100),
        (["cat"], "DTLINE", 100),
        (sh("exit 7"), "", 7),
        (sh("kill -9 $$"), "", 111),
        (["/nonexistent"], "", 100),
        (["true"], "", 0),
    ],
)
@pytest.mark.parametrize("program", ["preline", "qsmhook"])
def test_exit_codes_of_preline_and_qsmhook(
    site: Site, program: str, argv: list[str], missing: str, code: int
) -> None:
    environment = {name: value for name, value in COMMAND.items() if name != missing}
    if program == "qsmhook" and argv[:1] == ["-x"]:
        argv = ["-Z", "cat"]
    assert site.run(program, *argv, data=b"x" * 500_000, **environment).returncode == code


@pytest.mark.parametrize(
    ("options", "lines", "user"),
    [
        ([], ["UFLINE"], "me-ext"),
        (["-nPl"], ["RPLINE", "DTLINE"], "me-ext"),
        (["-DFMms", "-x", "ME-"], ["UFLINE"], "ext"),
        (["-xother"], ["UFLINE"], "me-ext"),
    ],
)
def test_qsmhook(site: Site, options: list[str], lines: list[str], user: str) -> None:
    show = 'printf "%s|" "$@"; cat'
    done = site.run("qsmhook", *options, "sh", "-c", show.replace("%", "%%"), "-", "%g", "%u@%h", "%%%z%",
                    data=b"x", **COMMAND)  # fmt: skip
    head = f"s@x.example|{user}@y.example|%|"
    assert done.stdout.decode() == head + "".join(COMMAND[name] for name in lines) + "x"


ASKING = b"Message-ID: <1@x>\nNotice-Requested-Upon-Delivery-To: other@x,\n  Me <me@y.example>\n\n"


@pytest.mark.parametrize(
    ("data", "sender", "code", "told"),
    [
        (ASKING, "s s@x.example", 0, True),
        (ASKING, "", 0, False),
        (ASKING, "#@[]", 0, False),
        (ASKING.replace(b"me@", b"you@"), "s@x.example", 0, False),
        (b"\n" + ASKING, "s@x.example", 0, False),
        (b"Notice-Requested-Upon-Delivery-To: (\n", "s@x.example", 100, False),
    ],
)
def test_qreceipt(recorded: Site, data: bytes, sender: str, code: int, told: bool) -> None:
    assert recorded.run("qreceipt", "me@y.example", data=data, SENDER=sender).returncode == code
    assert (recorded.place / "message").exists() == told
    if told:
        assert recorded.envelope == (b"", [b"s s@x.example"])
        assert b'To: <"s s"@x.example>\n' in recorded.message
        assert b"\nme@y.example,\n" in recorded.message
        assert recorded.message.endswith(b"Your Message-ID: <1@x>\n")


def test_qreceipt_is_used_wrongly(recorded: Site) -> None:
    assert recorded.run("qreceipt", SENDER="s@x.example").returncode == 100
    assert recorded.run("qreceipt", "me@y.example").returncode == 100


def entry(kind: int, line: bytes, user: bytes) -> bytes:
    return struct.pack("hi32s4s32s", kind, 1, line, b"", user).ljust(384, b"\0")


def test_who_is_logged_in_where(tmp_path: Path) -> None:
    utmp = tmp_path / "utmp"
    utmp.write_bytes(
        entry(7, b"pts/1", b"jiro")
        + entry(8, b"pts/2", b"jiro")
        + entry(7, b"pts/3", b"jirou")
        + entry(7, b"/etc/x", b"jiro")
        + entry(7, b"../x", b"jiro")
        + entry(7, b"", b"jiro")
        + entry(7, b"tty1", b"jiro")
        + b"cut"
    )
    assert list(qbiff.terminals(b"jiro", utmp)) == [b"pts/1", b"tty1"]


@pytest.mark.parametrize(("mode", "told"), [(0o700, True), (0o600, False)])
def test_qbiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, told: bool) -> None:
    (tmp_path / "utmp").write_bytes(entry(7, b"tty", b"jiro"))
    terminal = tmp_path / "tty"
    terminal.touch()
    terminal.chmod(mode)
    monkeypatch.setattr(qbiff, "UTMP", str(tmp_path / "utmp"))
    monkeypatch.setattr(qbiff, "DEVICES", str(tmp_path))
    (tmp_path / "message").write_bytes(b"Subject: h\x1bi\nTo: x\n\n" + b"body\n" * 100)
    child = os.fork()
    if child == 0:
        os.environ.update({**COMMAND, "USER": "jiro", "SENDER": "s\n@x"})
        os.dup2(os.open(tmp_path / "message", os.O_RDONLY), 0)
        os._exit(qbiff.main([], str(tmp_path)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    text = b"    h/i//" + b"body/" * 100
    expected = b"\r\n\a*** TO <me-ext> FROM <s_@x>\r\n" + text[:78] + b"\r\n"
    assert terminal.read_bytes() == (expected if told else b"")


def test_qbiff_never_fails(site: Site) -> None:
    assert site.run("qbiff", data=b"\xff\n").returncode == 0
    assert site.run("qbiff", data=b"A: b\n\n", **COMMAND).returncode == 0
