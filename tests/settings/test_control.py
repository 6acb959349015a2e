"""The directory as a whole: everything or nothing, and every reason at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.settings.control import problems, read
from ekiden.settings.problem import SettingsError
from ekiden.settings.schema import Listener, Settings

Control = Callable[..., Path]


def refusals(control: Path) -> list[str]:
    with pytest.raises(SettingsError) as error:
        read(control)
    return [str(problem) for problem in error.value.problems]


def test_one_file_is_enough(control: Control) -> None:
    assert read(control()) == Settings(me=b"host.example")


def test_the_relay_of_the_guide(control: Control) -> None:
    settings = read(
        control(
            {
                "me": "nix.co.jj\n",
                "rcpthosts": "nix.co.jj\n",
                "smtproutes": "nix.co.jj:[192.168.1.1]\n",
                "locals": "localhost\nhostA.nix.co.jj\n",
                "defaultdomain": "nix.co.jj\n",
                "plusdomain": "co.jj\n",
                "listen": "smtp *:25\n",
            }
        )
    )
    assert settings == Settings(
        me=b"nix.co.jj",
        rcpthosts=frozenset({b"nix.co.jj"}),
        smtproutes={b"nix.co.jj": b"[192.168.1.1]"},
        locals=frozenset({b"localhost", b"hosta.nix.co.jj"}),
        plusdomain=b"co.jj",
        listen=(Listener("smtp", "*", 25),),
    )


def test_certificates_are_paths_of_files_that_exist(control: Control) -> None:
    directory = control({"servercert.pem": "x", "clientkey.pem": "y"})
    settings = read(directory)
    assert settings.servercert == f"{directory}/servercert.pem"
    assert settings.clientkey == f"{directory}/clientkey.pem"
    assert (settings.serverkey, settings.clientcert) == ("", "")


def test_certificates_are_found_from_anywhere(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = control({"servercert.pem": "x"})
    monkeypatch.chdir(directory.parent)
    assert read(Path("control")).servercert == f"{directory}/servercert.pem"


def test_a_compiled_morercpthosts_stands_for_the_text(control: Control) -> None:
    directory = control({"morercpthosts": "A.example\n"})
    assert read(directory).morercpthosts == {b"a.example"}
    (directory / "morercpthosts.cdb").write_bytes(b"")
    assert read(directory).morercpthosts == frozenset()
    assert read(directory).morercpthosts_cdb == f"{directory}/morercpthosts.cdb"


def test_without_me_nothing_works(control: Control) -> None:
    (refusal,) = refusals(control({"me": None}))
    assert refusal.startswith("control/me: does not exist; write this host's fully qualified name into it")


def test_an_empty_me_is_no_name(control: Control) -> None:
    assert refusals(control({"me": "\nhost.example\n"}))[0].startswith("control/me: is empty; ")


def test_without_a_directory_there_is_one_problem(tmp_path: Path) -> None:
    assert len(refusals(tmp_path / "control")) == 1
    (tmp_path / "control").write_bytes(b"")
    assert len(refusals(tmp_path / "control")) == 1


def test_every_reason_is_given_at_once_and_nothing_else(control: Control) -> None:
    directory = control({"databytes": "x\n", "listen": "smtp\n", "unknown": ""})
    (directory / "locals").mkdir()
    assert [refusal.split(" ")[0] for refusal in refusals(directory)] == [
        "control/listen:1:",
        "control/databytes:1:",
        "control/locals:",
    ]
    assert "control/locals: cannot be read: Is a directory; " in refusals(directory)[2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_not_a_missing_one(control: Control) -> None:
    directory = control({"rcpthosts": "host.example\n"})
    (directory / "rcpthosts").chmod(0)
    assert "control/rcpthosts: cannot be read: Permission denied" in refusals(directory)[0]


def test_check_gives_what_is_fatal_first(control: Control) -> None:
    found = problems(control({"databytes": "x\n", "zork": "", "arx": ""}))
    assert [(problem.fatal, problem.file) for problem in found] == [
        (True, "control/databytes"),
        (False, "control/arx"),
        (False, "control/zork"),
    ]


def test_amid_changes_settings_are_whole_or_refused(control: Control) -> None:
    """Files are replaced, some by wrong ones, while they are read over and over."""
    directory = control({"databytes": "1\n", "smtproutes": "a:b\n"})
    good = {(1, b"b"), (1, b"c"), (2, b"b"), (2, b"c")}
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            for name, text in (("databytes", "2"), ("smtproutes", "a:c"), ("databytes", "1x"), ("smtproutes", "a:b")):
                (directory / "new").write_text(text)
                (directory / "new").rename(directory / name)
            (directory / "new").write_text("1")
            (directory / "new").rename(directory / "databytes")

    other = threading.Thread(target=disturb)
    other.start()
    seen: set[tuple[int, bytes]] = set()
    try:
        for _ in range(300):
            try:
                settings = read(directory)
            except SettingsError as error:
                assert [problem.file for problem in error.problems] == ["control/databytes"]
            else:
                seen.add((settings.databytes, settings.smtproutes[b"a"]))
    finally:
        stop.set()
        other.join()
    assert seen <= good


def test_a_refused_reload_leaves_the_old_object_alone(control: Control) -> None:
    directory = control({"locals": "a.example\n"})
    before = read(directory)
    (directory / "locals").write_text("b.example\n")
    (directory / "concurrencylocal").write_text("many\n")
    with pytest.raises(SettingsError):
        read(directory)
    assert before.locals == {b"a.example"}
