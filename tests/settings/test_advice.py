"""Warnings: each question finds what it asks for, and a sound directory gives none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.settings.advice import is_covered, is_known
from ekiden.settings.control import problems, read

Control = Callable[..., Path]
SOUND: dict[str, str] = {"rcpthosts": "host.example\n", "listen": "smtp *:25\n", "tcp.smtp": ":allow\n"}


def test_a_sound_directory_gives_no_warning(control: Control) -> None:
    directory = control({**SOUND, "virtualdomains": "v.host.example:joe\n", "morercpthosts": ".host.example\n"})
    assert problems(directory) == []


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        ({"rcpthosts": None}, "control/rcpthosts: warning: does not exist, so that anyone may send mail to anywhere"),
        ({"lokals": "x"}, "control/lokals: warning: is not the name of any setting"),
        ({"listen": None}, "control/listen: warning: names no listener"),
        ({"listen": "smtp *:25\nsmtps *:465\n"}, "control/listen:2: warning: smtps at *:465 needs a certificate"),
        (
            {"listen": "submission *:587\n"},
            "control/listen:1: warning: submission at *:587 has no certificate, so that nobody can log in",
        ),
        (
            {"virtualdomains": "#\nHost.example:joe\n"},
            'control/virtualdomains:2: warning: "host.example" is in control/locals too',
        ),
        (
            {"locals": "host.example\n\nb.example\n"},
            'control/locals:3: warning: "b.example" is not in control/rcpthosts; add it there',
        ),
        (
            {"virtualdomains": "u@v.example:joe\n"},
            'control/virtualdomains:1: warning: "v.example" is not in control/rcpthosts',
        ),
        ({"percenthack": "u@host.example"}, 'control/percenthack:1: warning: "u@host.example" is an address'),
        ({"badmailfrom": "bad.example\n"}, 'control/badmailfrom:1: warning: "bad.example" matches no address'),
        ({"badrcptto": "x\n"}, 'control/badrcptto:1: warning: "x" matches no address'),
        ({"smtproutes": "b.example:Host.Example:25\n"}, 'control/smtproutes:1: warning: "b.example" is sent to'),
        ({"concurrencydestination": "1\n"}, "concurrencydestinationstart: warning: is more than"),
        (
            {"activebytes": "1048576", "inlinebytes": "2000000"},
            "control/activebytes: warning: is less than inlinebytes",
        ),
        ({"helohost": "\n"}, "control/helohost: warning: is empty"),
        ({"serverkey.pem": "x"}, "control/serverkey.pem: warning: has no certificate beside it"),
        ({"morercpthosts.cdb": ""}, "control/morercpthosts.cdb: warning: has no morercpthosts beside it"),
    ],
)
def test_each_warning_alone(control: Control, files: dict[str, str | None], warning: str) -> None:
    directory = control({**SOUND, **files})
    (found,) = problems(directory)
    assert warning in str(found)
    assert found.remedy
    read(directory)


@pytest.mark.parametrize(("name", "user"), [("servercert.pem", "qmaild"), ("clientcert.pem", "qmailr")])
def test_an_exposed_key_is_told(control: Control, name: str, user: str) -> None:
    """With the user who needs it."""
    directory = control({**SOUND, name: "-----BEGIN PRIVATE KEY-----\n"})
    (directory / name).chmod(0o644)
    (found,) = problems(directory)
    assert "shows its private key to every user" in str(found)
    assert user in found.remedy
    (directory / name).chmod(0o640)
    assert problems(directory) == []


@pytest.mark.parametrize(("name", "program"), [("morercpthosts", "qmail-newmrh"), ("aliases", "newaliases")])
def test_a_stale_compilation_is_told(control: Control, name: str, program: str) -> None:
    directory = control({**SOUND, name: "b.example\n", f"{name}.cdb": ""})
    os.utime(directory / f"{name}.cdb", (1, 1))
    assert [str(found) for found in problems(directory)] == [
        f"control/{name}.cdb: warning: is older than {name}; run {program}"
    ]


def test_what_is_not_meant_to_be_accepted_gives_no_warning(control: Control) -> None:
    """Exceptions in virtualdomains, localhost, and whatever a compiled list may hold."""
    assert problems(control({**SOUND, "locals": "localhost\n", "virtualdomains": "x.example:\n:all\n"})) == []


@pytest.mark.parametrize(
    ("domain", "covered"),
    [
        (b"a.example", True),
        (b"b.example", False),
        (b"x.a.example", False),
        (b"x.c.example", True),
        (b"y.x.c.example", True),
        (b"c.example", False),
    ],
)
def test_is_covered(domain: bytes, covered: bool) -> None:
    assert is_covered(domain, frozenset({b"a.example", b".c.example"})) is covered


def test_tcp_rules_are_known() -> None:
    assert is_known("tcp.smtp.cdb")
    assert is_known("servercert.pem")
    assert not is_known("servercert")
