"""sendmail's aliases as control/aliases, which must compile, and as .qmail files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.migration.aliases import USE, Aliases
from ekiden.migration.finding import Kind, Report
from ekiden.migration.plan import Plan
from ekiden.routing.aliases import Domains, alias_records

DOMAINS = Domains(b"masquerade.example", b"example", b"example")


def read(tmp_path: Path, text: str | bytes, home: Path | None = None) -> tuple[Plan, Report, Aliases]:
    path = tmp_path / "aliases"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    plan, report = Plan("me.example", {"control/locals": ["me.example"]}), Report()
    aliases = Aliases(plan, report, home or tmp_path / "home", lambda name: name == "account")
    aliases.read(path)
    return plan, report, aliases


def compiled(plan: Plan) -> dict[bytes, bytes]:
    """What newaliases makes of control/aliases."""
    text = "".join(f"{line}\n" for line in plan.files["control/aliases"])
    return dict(alias_records(text.encode("utf-8", "surrogateescape"), DOMAINS))


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("root: bob", b":root@", b"&bob@me.example\0"),
        ("MAILER-DAEMON: postmaster", b":mailer-daemon@", b"&postmaster@me.example\0"),
        ("root: \\bob", b":root@", b"&bob@me.example\0"),
        ("staff: bob,\n  carol@far.example", b":staff@", b"&carol@far.example\0&bob@me.example\0"),
        ('"two words": bob', b":two words@", b"&bob@me.example\0"),
        ("nobody: /dev/null", b":nobody@", b""),
        ('prog: "|/bin/prog -x \\"a, b\\""', b":prog@", b'!/bin/prog -x "a, b"\0'),
        ("prog: |/bin/prog -x a", b":prog@", b"!/bin/prog -x a\0"),
        ('prog: |"/bin/prog -x a"', b":prog@", b"!/bin/prog -x a\0"),
        ("owner-staff: bob", b"?staff@", b"owner-staff@masquerade.example"),
        ("list: :include:/etc/mail/list", b":list@", b"/etc/mail/list.bin\0"),
    ],
)
def test_aliases(tmp_path: Path, line: str, key: bytes, value: bytes) -> None:
    plan, report, _aliases = read(tmp_path, f"# ours\n{line}\n")
    assert compiled(plan)[key] == value
    assert report.count(Kind.LEFT) == 0
    assert {finding.place.line for finding in report.findings} == {2}


def test_lists_are_to_be_compiled(tmp_path: Path) -> None:
    assert read(tmp_path, "list: :include:/a/list, bob\n")[2].included == ["/a/list"]


def test_delivery_to_a_file_is_a_dot_qmail_file(tmp_path: Path) -> None:
    plan, _report, _aliases = read(tmp_path, 'a.b: /var/mail/archive, bob, x@far.example, "|prog"\n')
    del plan.files["control/locals"]
    assert plan.files == {"alias/.qmail-a:b": ["/var/mail/archive", "&bob@me.example", "&x@far.example", "|prog"]}


def test_an_error_is_a_bounce(tmp_path: Path) -> None:
    plan, _report, _aliases = read(tmp_path, "gone: error:5.1.1 he left\n")
    del plan.files["control/locals"]
    assert plan.files == {"alias/.qmail-gone": ["|bouncesaying 'he left (#5.1.1)'"]}


def test_files_that_config_made_make_way(tmp_path: Path) -> None:
    (tmp_path / "home" / "alias").mkdir(parents=True)
    (tmp_path / "home" / "alias" / ".qmail-root").touch()
    plan, _report, _aliases = read(tmp_path, "root: bob\npostmaster: root\n")
    assert plan.files["alias/.qmail-root"] == [USE]
    assert "alias/.qmail-postmaster" not in plan.files


@pytest.mark.parametrize(
    "line",
    [
        "nothing",
        "a:",
        "two: x\ntwo: y",
        "account: bob, \\account",
        "account: bob, Account@Me.example",
        "f: /a/file, :include:/a/list",
        "e: error:x, bob",
        "a/b: /x",
    ],
)
def test_what_is_left_is_named(tmp_path: Path, line: str) -> None:
    _plan, report, _aliases = read(tmp_path, f"{line}\n")
    (found,) = (finding for finding in report.findings if finding.kind is Kind.LEFT)
    assert found.place.line == line.count("\n") + 1
    assert found.remedy or "twice" in found.text


@given(st.lists(st.text(alphabet='ab.@,:;"\\|/<>() \t#é-', max_size=30), max_size=5))
def test_what_is_taken_compiles(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    plan, _report, _aliases = read(tmp_path_factory.getbasetemp(), "\n".join(lines) + "\n")
    if "control/aliases" in plan.files:
        assert compiled(plan)
