"""``ekiden check`` and ``ekiden check --user`` as an administrator runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.peers.ekiden import NOBODY, Ekiden


@pytest.fixture
def joe(home: Ekiden) -> Path:
    """joe's home; he is in users/assign, and ekiden has a user for alias."""
    inbox = home.make_inbox("joe")
    os.chown(home.home / "alias", os.getuid() or NOBODY, -1)
    return inbox.parent


def test_nothing_wrong(home: Ekiden, joe: Path) -> None:
    assert home.command("check").stdout == "no problems found\n"


def test_problems_of_users(home: Ekiden, joe: Path) -> None:
    (joe / ".qmail").write_text("#\n./Maildri/\n")
    (home.home / "users" / "assign").write_text("=joe:joe:x:1:/:::\n.\n")
    os.utime(home.home / "users" / "assign", (1, 1))
    checked = home.command("check", check=False)
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [
        "users/assign:1: uid or gid is not a number; the form is =local:user:uid:gid:homedir:dash:ext:"
    ]
    listed = home.command("check", "--user", "joe", "--json").stdout.splitlines()
    assert [(json.loads(line)["file"], json.loads(line)["line"]) for line in listed] == [(f"{joe}/.qmail", 2)]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two users")
def test_rules_that_their_reader_cannot_read(home: Ekiden, joe: Path) -> None:
    (home.home / "control" / "tcp.smtp").chmod(0o600)
    said = home.command("check").stdout
    assert said.startswith("control/tcp.smtp: warning: cannot be read by user ")
    assert said.endswith(f"so that every client is denied; chmod 644 {home.home}/control/tcp.smtp\n")


@pytest.mark.parametrize("name", ["joe", "joe@ekiden.example", "u@v.example"])
def test_one_user(home: Ekiden, joe: Path, name: str) -> None:
    home.control("virtualdomains", "u@v.example:joe")
    home.control("rcpthosts", "ekiden.example", "v.example")
    (joe / ".qmail").write_text("\n")
    said = home.command("check", "--user", name).stdout
    # u@v.example is joe-u, which is nobody's but alias's here.
    owner = "alias" if name.startswith("u@") else "joe"
    assert said.startswith(f"{name} is controlled by {owner}, ")
    assert (f"{joe}/.qmail:1: warning: The first line of the .qmail file is blank." in said) == (owner == "joe")


def test_a_route_to_this_host_tells_who_gets_the_mail(home: Ekiden, joe: Path) -> None:
    def told(address: str) -> list[str]:
        return home.command("route", address).stdout.splitlines()[2:]

    assert told("joe@ekiden.example") == [f"  joe is controlled by joe, {joe}/.qmail"]
    owner, wrong = told("nobody-here@ekiden.example")
    assert owner == f"  nobody-here is controlled by alias, {home.home}/alias/.qmail-nobody-here"
    assert "there is neither .qmail-nobody-here nor a .qmail-default, so that mail bounces" in wrong


def test_an_address_elsewhere(home: Ekiden, joe: Path) -> None:
    refused = home.command("check", "--user", "a@far.example", check=False)
    assert (refused.returncode, refused.stdout) == (1, "Error: a@far.example is not delivered on this host\n")
