"""The first configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.settings.control import problems, read
from ekiden.settings.first import (
    DIRECTORIES,
    ConfigurationError,
    Resolver,
    appended,
    canonical_name,
    configure,
    configure_by_dns,
    default_domain,
    make_aliases,
    make_home,
    plus_domain,
    require_host_name,
    require_unconfigured,
    write,
    write_listen,
)
from ekiden.settings.schema import Listener


@pytest.mark.parametrize(
    ("name", "default", "plus"),
    [
        ("indy2.nix.co.jj", "nix.co.jj", "co.jj"),
        ("a.b.c", "b.c", "b.c"),
        ("a.b", "a.b", "a.b"),
        ("a", "a", "a"),
    ],
)
def test_domains_from_the_name(name: str, default: str, plus: str) -> None:
    assert (default_domain(name), plus_domain(name)) == (default, plus)


def test_a_home_is_made_once(tmp_path: Path) -> None:
    make_home(tmp_path / "new" / "home")
    (tmp_path / "new" / "home" / "alias" / ".qmail-root").write_text("")
    make_home(tmp_path / "new" / "home")
    assert sorted(os.listdir(tmp_path / "new" / "home")) == sorted(DIRECTORIES)
    assert (tmp_path / "new" / "home" / "alias" / ".qmail-root").exists()


def test_all_may_enter_a_new_home(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_home(tmp_path / "home")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "home", *(tmp_path / "home").iterdir())} == {0o755}


def test_a_configured_home_is_sound(tmp_path: Path) -> None:
    make_home(tmp_path)
    configure(tmp_path, "mail.example.org", lambda line: None)
    write_listen(tmp_path, ["127.0.0.1:2525", "[::1]:2525"])
    assert problems(tmp_path / "control") == []
    settings = read(tmp_path / "control")
    assert settings.rcpthosts == settings.locals == {b"mail.example.org"}
    assert settings.listen == (Listener("smtp", "127.0.0.1", 2525), Listener("smtp", "[::1]", 2525))


def test_a_home_that_does_not_exist_is_unconfigured(tmp_path: Path) -> None:
    require_unconfigured(tmp_path / "new")
    with pytest.raises(ConfigurationError):
        configure(tmp_path / "new", "mail.example.org", lambda line: None)
    assert not (tmp_path / "new").exists()


def test_the_hosts_that_were_there_stay(tmp_path: Path) -> None:
    make_home(tmp_path)
    (tmp_path / "control" / "rcpthosts").write_text("# by hand\nother.example\nMail.Example.org")
    (tmp_path / "control" / "locals").write_text("other.example")
    configure(tmp_path, "mail.example.org", lambda line: None)
    assert (tmp_path / "control" / "rcpthosts").read_text() == "# by hand\nother.example\nMail.Example.org\n"
    assert (tmp_path / "control" / "locals").read_text() == "other.example\nmail.example.org\n"


def test_what_appended_keeps(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\n")
    write(tmp_path / "file", appended(tmp_path / "file", ["b"]))
    assert (tmp_path / "file").read_bytes() == b"\xff\nb\n"


@pytest.mark.parametrize("name", ["", "a b", "a..b", ".a", "a.", "-a.b", "a/b", "a\n", "u@a.b", "a" * 254])
def test_what_is_no_host_name(name: str) -> None:
    with pytest.raises(ConfigurationError):
        require_host_name(name)


@pytest.mark.parametrize("name", ["localhost", "a.b", "3com.com", "node_abcd.nix.co.jj", "xn--a-b.example"])
def test_what_is_a_host_name(name: str) -> None:
    require_host_name(name)


def test_files_are_replaced_whole_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old and longer than the new\n")
    path.chmod(0o600)
    before = os.umask(0o077)
    try:
        write(path, ["new"])
    finally:
        os.umask(before)
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError):
        write(tmp_path / "file", ["new"])
    assert os.listdir(tmp_path) == ["file"]


def lost(*_: str) -> str:
    raise OSError("not found")


@pytest.mark.parametrize(
    ("canonical", "reverse", "name"),
    [
        ("host", "Mail.Example.org", "mail.example.org"),
        ("canonical.example.org", "mail.example.org", "mail.example.org"),
        ("canonical.example.org", "host", "canonical.example.org"),
        ("canonical.example.org", None, "canonical.example.org"),
        ("canonical.example.org", "bad name.example", "canonical.example.org"),
    ],
)
def test_the_canonical_name(canonical: str, reverse: str | None, name: str) -> None:
    resolver = Resolver(
        forward=lambda host: (canonical, ["192.0.2.1", "192.0.2.2"]),
        reverse=lambda address: reverse if reverse and address == "192.0.2.1" else lost(),
    )
    assert canonical_name("host", resolver) == (name, ["192.0.2.1", "192.0.2.2"])


def test_a_name_without_a_dot_is_not_canonical() -> None:
    with pytest.raises(ConfigurationError):
        canonical_name("host", Resolver(forward=lambda host: (host, ["127.0.0.1"]), reverse=lambda address: "host"))


def test_without_a_name_not_even_a_home_is_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(ConfigurationError):
        configure(home, "a b", lambda line: None, prepare=make_home)
    with pytest.raises(ConfigurationError):
        configure_by_dns(home, lambda line: None, Resolver(forward=lambda host: (host, [])), prepare=make_home)
    assert not home.exists()


def test_the_aliases_that_must_exist_are_empty_files(tmp_path: Path) -> None:
    make_home(tmp_path)
    (tmp_path / "alias" / ".qmail-root").write_text("&jiro@nix.example\n")
    make_aliases(tmp_path)
    files = {path.name: path.read_text() for path in (tmp_path / "alias").iterdir()}
    assert files == {".qmail-postmaster": "", ".qmail-mailer-daemon": "", ".qmail-root": "&jiro@nix.example\n"}
    assert (tmp_path / "alias" / ".qmail-postmaster").stat().st_mode & 0o777 == 0o644
