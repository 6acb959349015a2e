"""dot-forward: what a .forward file says is done, and its exit code tells qmail-local whether to go on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.programs.conftest import Running, Site

MESSAGE = b"Subject: x\n\nbody\n"
FRONT = {
    "UFLINE": "From a@b Thu Jan  1 00:00:00 1970\n",
    "RPLINE": "Return-Path: <a@b>\n",
    "DTLINE": "Delivered-To: joe@h.example\n",
}
VARIABLES = {"USER": "joe", "LOCAL": "joe", "HOST": "h.example", "SENDER": "a@b", "NEWSENDER": "new@b", **FRONT}


def follow(site: Site, text: str, *argv: str) -> tuple[int, str]:
    """Run dot-forward in a home with this .forward, the message as a file at descriptor 0."""
    user = site.place / "user"
    user.mkdir(exist_ok=True)
    (user / ".forward").write_text(text)
    (site.place / "input").write_bytes(MESSAGE)
    with open(site.place / "input", "rb") as file:
        done = subprocess.run(
            [site.home / "bin" / "dot-forward", *argv, ".forward"],
            stdin=file,
            capture_output=True,
            env=site.environment | VARIABLES | {"HOME": str(user)},
            cwd=user,
            timeout=60,
        )
    return done.returncode, done.stderr.decode()


def test_addresses(recorded: Site) -> None:
    code, said = follow(recorded, '# me\nbob, "spaced out"@y.z (why)\n\nJoe Shmoe <shmoe@h>\nfred@x+\n')
    assert code == 99 and said.startswith("dot-forward: qp ")
    assert recorded.envelope == (
        b"new@b",
        [b"bob@indy2.nix.co.jj", b"spaced out@y.z", b"shmoe@h.nix.co.jj", b"fred@x.co.jj"],
    )
    assert recorded.message == FRONT["DTLINE"].encode() + MESSAGE


@pytest.mark.parametrize("text", ["\\joe\n", "joe", "JOE", "joe@h.example", "JOE@H.EXAMPLE\n", "Joe <joe@h.example>"])
def test_direct_delivery(recorded: Site, text: str) -> None:
    assert follow(recorded, text) == (0, "")
    assert not (recorded.place / "message").exists()


def test_a_copy_and_direct_delivery(recorded: Site) -> None:
    assert follow(recorded, '\\joe, "|cat > copy"\nbob@x.y\n')[0] == 0
    assert recorded.envelope == (b"new@b", [b"bob@x.y"])
    assert (recorded.place / "user" / "copy").read_bytes() == "".join(FRONT.values()).encode() + MESSAGE


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "<>\n"])
def test_an_empty_file_is_as_none(recorded: Site, text: str) -> None:
    assert follow(recorded, text) == (0, "")
    assert follow(recorded, text, "-n") == (0, "skipping empty file .forward\ndirect delivery\n")


def test_the_first_file_counts(recorded: Site) -> None:
    assert follow(recorded, "bob@x.y\n", "nonexistent")[0] == 99
    assert recorded.envelope[1] == [b"bob@x.y"]


@pytest.mark.parametrize("command", ['"|cat > one"', '|"cat > one"'])
def test_both_ways_to_quote_a_command(recorded: Site, command: str) -> None:
    assert follow(recorded, command) == (99, "")
    assert (recorded.place / "user" / "one").read_bytes().endswith(MESSAGE)


@pytest.mark.parametrize(
    ("command", "code"), [("exit 1", 111), ("exit 100", 100), ("exit 77", 100), ("kill $$", 111)]
)
def test_a_command_that_fails_decides(recorded: Site, command: str, code: int) -> None:
    assert follow(recorded, f'bob@x.y, "|{command}"')[0] == code
    assert not (recorded.place / "message").exists()


def test_mailboxes(recorded: Site) -> None:
    user = recorded.place / "user"
    assert recorded.run("maildirmake", str(recorded.place / "box")).returncode == 0
    assert follow(recorded, f"{user}/mbox, {recorded.place}/box/, /dev/null\n") == (99, "")
    stored = b"Return-Path: <a@b>\nDelivered-To: joe@h.example\n" + MESSAGE
    assert (user / "mbox").read_bytes().partition(b"\n")[2] == stored + b"\n"
    (file,) = (recorded.place / "box" / "new").iterdir()
    assert file.read_bytes() == stored
    code, said = follow(recorded, f"{recorded.place}/nothing/")
    assert code == 111 and "No such file or directory" in said


def test_include(recorded: Site) -> None:
    (recorded.place / "list").write_text('# list\nbob@x.y\n:include:"inner"\n')
    (recorded.place / "user").mkdir()
    (recorded.place / "user" / "inner").write_text("fred@x.y, bob@x.y")
    assert follow(recorded, f":include:{recorded.place}/list\n")[0] == 99
    assert recorded.envelope[1] == [b"bob@x.y", b"fred@x.y"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":include:/nonexistent", "unable to read /nonexistent: No such file or directory"),
        (":include:.forward", ":include: files are more than 10 deep; the last one is .forward"),
        ("bob@x.y\n\na@b>\n", "unable to parse .forward:3: > without <"),
        ("|vacation joe", "unable to parse .forward:1: a command with arguments must stand in quotes"),
        ("a\0b", "unable to parse .forward:1: the line holds NUL"),
    ],
)
def test_what_cannot_be_followed_defers(recorded: Site, text: str, said: str) -> None:
    assert follow(recorded, text) == (111, f"dot-forward: fatal: {said}\n")
    assert not (recorded.place / "message").exists()


def test_a_directory_in_the_files_place_defers(recorded: Site) -> None:
    (recorded.place / "user" / ".forward").mkdir(parents=True)
    done = recorded.run("dot-forward", ".forward", cwd=recorded.place / "user")
    assert (done.returncode, done.stderr) == (111, b"dot-forward: fatal: unable to read .forward: Is a directory\n")


def test_without_doing_it(recorded: Site) -> None:
    text = '"|vacation joe", bob@x.y, /mbox\n'
    assert follow(recorded, text, "-n") == (99, "pipe through vacation joe\nforward bob@x.y\nstore in /mbox\n")
    assert follow(recorded, "joe", "-n") == (0, "direct delivery\n")


@pytest.mark.slow
def test_a_forward_file_of_a_running_home(running: Running, place: Path) -> None:
    """``|dot-forward .forward`` and a Maildir after it, as boot/home+df has it."""
    alias = running.home / "alias"
    (alias / ".qmail-joe").write_text("|dot-forward .forward\n./Maildir/\n")
    environment = {**os.environ, "EKIDEN_HOME": str(running.home)}

    def send(subject: str) -> None:
        data = f"Subject: {subject}\n\n".encode()
        subprocess.run([running.home / "bin" / "sendmail", "joe"], input=data, env=environment, check=True)

    send("no file")
    running.arrived(1)
    (alias / ".forward").write_text("tell\n")
    send("forwarded")
    forwarded = [path.read_text() for path in running.arrived(2) if "Subject: forwarded" in path.read_text()]
    assert forwarded[0].count("Delivered-To: ") == 2
    (alias / ".forward").write_text("\\alias, tell\n")
    send("both")
    both = [path.read_text() for path in running.arrived(4) if "Subject: both" in path.read_text()]
    assert sorted(text.count("Delivered-To: ") for text in both) == [1, 2]
