"""Every control file told in a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.settings.catalogue import CATALOGUE, control_file
from ekiden.settings.telling import printable, tell

Control = Callable[..., Path]


def told(directory: Path) -> dict[str, str]:
    """What is told by file."""
    return dict(paragraph.rstrip("\n").split(": ", 1) for paragraph in tell(directory))


def test_every_file_is_told_in_order_and_as_default_without_it(control: Control) -> None:
    report = told(control())
    assert list(report) == sorted(control_file(name) for name in CATALOGUE)
    assert [file for file, text in report.items() if not text.startswith("(Default.) ")] == ["me"]


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_default_is_told_as_the_value_would_be(control: Control, name: str) -> None:
    text = told(control())[control_file(name)].removeprefix("(Default.) ")
    assert "{" not in text
    assert text.endswith((".", "./Mailbox"))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("me", "host.example", "This host is called host.example."),
        ("concurrencyremote", "255\n", "Up to 255 remote deliveries run at once."),
        ("concurrencyremote", "\n", "(Default.) Up to 20 remote deliveries run at once."),
        ("concurrencyremote", "999999\n", "Up to 10000 remote deliveries run at once."),
        ("helohost", "a\x01b\u00e9\n", "To other servers this host introduces itself as a?b??."),
        ("helohost", "\n", "To other servers this host introduces itself as ."),
        ("outgoingip", "0.0.0.0\n", "Outgoing connections come from the address that the system chooses."),
        ("outgoingip", "192.0.2.1\n", "Outgoing connections come from 192.0.2.1."),
        ("ipv6", "0\n", "IPv6 when sending (1: yes, 0: no): 0."),
        ("rcpthosts", "A.example\n.b\n", "\nMail to A.example is accepted from every SMTP client.\n"
                                         "Mail to .b is accepted from every SMTP client."),
        ("rcpthosts", "# none\n", "\nNo entries."),
        ("smtproutes", ":[192.10.10.2]\n", "\nRoute: :[192.10.10.2]"),
        ("virtualdomains", "V.example:joe\n", "\nVirtual: V.example:joe"),
        ("morercpthosts", "m.example\n", "\nWithout rcpthosts this file changes nothing.\n"
                                         "Mail to m.example is accepted from every SMTP client."),
        ("databytes", "x\n", 'Oops! Line 1: "x" is not a number; allowed is a whole number from 0 to'
                             " 1099511627776 (octets)."),
        ("listen", "smtp *:25\n", "\nListening: smtp *:25"),
    ],
)  # fmt: skip
def test_what_a_file_says_is_told(control: Control, name: str, content: str, text: str) -> None:
    assert told(control({name: content}))[name] == text


def test_without_me_its_followers_are_told_by_their_own_names(control: Control) -> None:
    report = told(control({"me": None}))
    assert report["me"].startswith("(Default.) This host has no name yet!")
    assert report["idhost"] == "(Default.) Message-IDs made here end in idhost."


def test_a_file_that_cannot_be_read_does_not_hide_the_others(control: Control) -> None:
    directory = control()
    (directory / "idhost").mkdir()
    assert told(directory)["idhost"] == "Oops! This file cannot be read: Is a directory."
    assert told(directory)["virtualdomains"].startswith("(Default.) ")


def test_unknown_files_are_named_last(control: Control) -> None:
    directory = control({"zork": "", "arx": "", "tcp.smtp": ""})
    (directory / os.fsdecode(b"\xff")).write_bytes(b"")
    tail = list(told(directory).items())[-3:]
    assert tail == [(name, "I have no idea what this file does.") for name in ("arx", "zork", "?")]


def test_the_compiled_list(control: Control) -> None:
    directory = control()
    text, compiled = directory / "morercpthosts", directory / "morercpthosts.cdb"
    assert told(directory)["morercpthosts.cdb"].startswith("(Default.)")
    compiled.write_bytes(b"")
    assert told(directory)["morercpthosts.cdb"].startswith("Oops! There is no morercpthosts")
    text.write_bytes(b"")
    os.utime(compiled, (1, 1))
    assert told(directory)["morercpthosts.cdb"].startswith("Oops! It is older")
    os.utime(text, (1, 1))
    assert told(directory)["morercpthosts.cdb"] == "It is no older than morercpthosts."
    compiled.unlink()
    assert told(directory)["morercpthosts.cdb"].startswith("Oops! It is missing")


def test_printable() -> None:
    assert printable(b" ~\x7f\n\xff") == " ~???"
