"""config: the first configuration from DNS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.programs import config
from ekiden.settings.first import Resolver

NAMES = {"192.0.2.1": "HostA.nix.co.jj", "192.0.2.7": "www.nix.co.jj", "127.0.0.1": "localhost"}


def reverse(address: str) -> str:
    if address not in NAMES:
        raise OSError("no name")
    return NAMES[address]


def nowhere(host: str) -> tuple[str, list[str]]:
    raise OSError("no such host")


FOUND = Resolver(
    hostname=lambda: "HOSTA",
    forward=lambda host: (host, ["192.0.2.1"]),
    reverse=reverse,
    addresses=lambda: ["127.0.0.1", "192.0.2.1", "192.0.2.7", "198.51.100.1"],
)
LOST = Resolver(hostname=lambda: "hosta", forward=nowhere, reverse=reverse, addresses=lambda: ["192.0.2.1"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    return tmp_path


def test_what_dns_says_is_written_and_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config.main([], str(home), FOUND) == 0
    assert capsys.readouterr().out == (
        "This host calls itself hosta.\n"
        "Its canonical name in DNS is hosta.nix.co.jj.\n"
        "Putting hosta.nix.co.jj into control/me...\n"
        "Putting nix.co.jj into control/defaultdomain...\n"
        "Putting co.jj into control/plusdomain...\n"
        "\n"
        "This host's IP addresses:\n"
        "127.0.0.1: Adding localhost to control/locals...\n"
        "192.0.2.1: Adding hosta.nix.co.jj to control/locals...\n"
        "192.0.2.7: Adding www.nix.co.jj to control/locals...\n"
        "198.51.100.1: It has no name in DNS.\n"
        "\n"
        "Other domain names of this host must be added to control/locals by hand, except\n"
        "aliases, that is, names with a CNAME record.\n"
        "\n"
        "Copying control/locals to control/rcpthosts...\n"
        "SMTP messages are refused from now on, except to those hosts.\n"
        "Remember: what is added to locals or virtualdomains has to be added to rcpthosts too.\n"
    )
    hosts = "hosta.nix.co.jj\nlocalhost\nwww.nix.co.jj\n"
    assert {path.name: path.read_text() for path in (home / "control").iterdir()} == {
        "me": "hosta.nix.co.jj\n",
        "defaultdomain": "nix.co.jj\n",
        "plusdomain": "co.jj\n",
        "locals": hosts,
        "rcpthosts": hosts,
    }


def test_without_a_canonical_name_nothing_is_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config.main([], str(home), LOST) == 100
    assert capsys.readouterr().out == (
        "This host calls itself hosta.\n"
        "Sorry, could not find this host's canonical name in DNS.\n"
        "control/me must be set up by hand.\n"
    )
    assert os.listdir(home / "control") == []


def test_a_configured_home_is_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "control" / "me").write_text("old.example\n")
    assert config.main([], str(home), FOUND) == 100
    assert "control/me exists" in capsys.readouterr().out
    assert os.listdir(home / "control") == ["me"]


def test_arguments_are_a_mistake(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config.main(["host.example"], str(home), FOUND) == 100
    assert capsys.readouterr().err == "config: usage: config\n"
