"""Verdicts on connections, and rules that change while they are in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.policy.ruletext import compile_rules, parse_rules
from ekiden.policy.tcprules import (
    Rules,
    RulesFile,
    Verdict,
    decode_instructions,
    doubts,
    find_rule,
    problems,
    require_sound,
)
from ekiden.settings.problem import SettingsError
from ekiden.tables.cdb import replace_cdb

MANUAL = b"""joe@127.0.0.1:allow,RULE="first"
18.23.0.32:allow,RULE="second"
:allow,RULE="third"
127.:allow,RULE="fourth"
=relay.example:allow,RULE="name"
=.example:allow,RULE="suffix"
=:deny
2001:db8::/32:allow,RULE="network"
2001:db8:0:1::/64:deny
2001:db8::1:allow,RULE="six"
"""


def make_rules(text: bytes) -> Rules:
    return Rules(compile_rules(parse_rules(text.split(b"\n"))))


@pytest.mark.parametrize(
    ("address", "host", "info", "rule"),
    [
        ("10.119.75.38", None, None, b"third"),
        ("18.23.0.32", None, None, b"second"),
        ("127.0.0.1", None, b"bill", b"fourth"),
        ("127.0.0.1", None, b"joe", b"first"),
        ("10.1.1.1", b"Relay.Example", None, b"name"),
        ("10.1.1.1", b"x.y.example", None, b"suffix"),
        ("127.0.0.2", b"x.y.example", None, b"fourth"),
        ("10.1.1.1", b"other.test", None, None),
        ("2001:db8:0:2::1", None, None, b"network"),
        ("2001:db8::1%eth0", None, None, b"six"),
        ("2001:db8:0:1::1", None, None, None),
        ("2001:db9::1", None, None, b"third"),
        ("::ffff:127.0.0.1", None, None, b"fourth"),
        ("", None, None, b"third"),
    ],
)
def test_verdicts(address: str, host: bytes | None, info: bytes | None, rule: bytes | None) -> None:
    verdict = make_rules(MANUAL).lookup(address, host, info)
    assert verdict.allow is (rule is not None)
    assert verdict.environment.get(b"RULE") == rule


def test_without_a_matching_rule_a_connection_is_allowed() -> None:
    assert make_rules(b"10.:deny").lookup("11.1.1.1") == Verdict(True, {}, None)


def test_of_two_rules_with_one_address_the_first_counts() -> None:
    assert make_rules(b":allow\n:deny").lookup("10.1.1.1").allow


def test_instructions() -> None:
    assert decode_instructions(b"", b"D\0+A=b=c\0+B=\0") == Verdict(False, {b"A": b"b=c", b"B": b""}, b"")
    assert decode_instructions(b"", b"x+=v\0+C\0+A=b") == Verdict(True, {b"A": b"b"}, b"")


def test_any_table_can_be_asked() -> None:
    table = {b"10.": b"D\0", b"=": b""}
    assert find_rule(table.get, b"10.1.1.1", b"a") == (b"10.", b"D\0")
    assert find_rule(table.get, b"11.1.1.1", b"a") == (b"=", b"")
    assert find_rule(table.get, b"11.1.1.1") is None


def replace(path: Path, text: bytes) -> None:
    path.with_suffix(".new").write_bytes(text)
    os.rename(path.with_suffix(".new"), path)


def allows(file: RulesFile) -> bool:
    return file.current().lookup("10.1.1.1").allow


def test_rules_follow_their_text(tmp_path: Path) -> None:
    path = tmp_path / "tcp.smtp"
    file = RulesFile(path)
    assert allows(file), "without a file everyone may connect"
    replace(path, b":deny\n")
    assert not allows(file)
    replace(path, b":allow\n")
    assert allows(file)
    assert file.current() is file.current()


def test_wrong_text_leaves_the_rules_from_before(tmp_path: Path) -> None:
    path = tmp_path / "tcp.smtp"
    path.write_bytes(b":deny\n")
    file = RulesFile(path)
    replace(path, b"# x\n:alow\n")
    assert not allows(file)
    assert file.problem is not None
    assert file.problem.startswith("control/tcp.smtp: line 2: :alow: after the address")
    assert file.news() == file.problem
    assert file.news() == ""
    replace(path, b":allow\n")
    assert allows(file)
    assert file.problem is None


def test_text_that_is_wrong_from_the_start_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "tcp.smtp"
    path.write_bytes(b":alow\n")
    file = RulesFile(path)
    assert not allows(file)
    assert file.problem
    replace(path, b":allow\n")
    assert allows(file)


def test_text_that_disappears_leaves_the_rules_from_before(tmp_path: Path) -> None:
    path = tmp_path / "tcp.smtp"
    path.write_bytes(b":deny\n")
    file = RulesFile(path)
    aside = path.rename(tmp_path / "aside")
    assert not allows(file)
    assert "disappeared" in str(file.problem)
    assert not allows(file)
    aside.rename(path)
    assert not allows(file)
    assert file.problem is None


def test_a_compiled_file_serves_without_text(tmp_path: Path) -> None:
    path, cdb = tmp_path / "tcp.smtp", tmp_path / "tcp.smtp.cdb"
    replace_cdb(cdb, tmp_path / "tmp", [(b"", b"D\0")])
    file = RulesFile(path)
    assert not allows(file)
    replace_cdb(cdb, tmp_path / "tmp", [(b"", b""), (b"", b"D\0")])
    assert allows(file)
    cdb.write_bytes(b"damaged")
    assert allows(file)
    assert file.problem == "unable to read control/tcp.smtp.cdb: the file is damaged"
    path.write_bytes(b":deny\n")
    assert not allows(file), "the text goes before"


def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "tcp.smtp").mkdir()
    file = RulesFile(tmp_path / "tcp.smtp")
    assert not allows(file)
    assert file.problem == "unable to read control/tcp.smtp: Is a directory"


def test_problems_for_people(tmp_path: Path) -> None:
    path = tmp_path / "tcp.smtp"
    path.write_bytes(b"10.3-2.:deny\n127.:allow\n:alow\n")
    assert [(problem.line, problem.fatal) for problem in problems(path)] == [
        (1, False),
        (3, True),
    ]
    assert str(problems(path)[1]).startswith("control/tcp.smtp:3: :alow is no rule; after the")
    assert problems(tmp_path / "absent")[0].fatal


def test_a_variable_that_nobody_reads_is_told(tmp_path: Path) -> None:
    path = tmp_path / "tcp.smtp"
    path.write_text(
        ':allow,RELAYCLIENT="",RBLSMTPD="-no"\n:allow,DATABYTES="0",TCPREMOTEHOST="a",TCPREMOTEINFO="b"\n'
    )
    (found,) = problems(path)
    assert (found.line, found.fatal) == (1, False)
    assert found.message == "sets RBLSMTPD, which nobody reads here"


@pytest.mark.parametrize("rule", ["=host.example:deny", "=.example:deny", "=:allow", "joe@192.0.2.1:allow"])
def test_a_rule_by_name_is_told(tmp_path: Path, rule: str) -> None:
    path = tmp_path / "tcp.smtp"
    path.write_text(f"192.0.2.1:allow\n{rule}\n:deny\n")
    (found,) = problems(path)
    assert (found.line, found.fatal) == (2, False)
    assert found.message.startswith("never applies")
    records = compile_rules(parse_rules(path.read_bytes().split(b"\n")))
    replace_cdb(tmp_path / "tcp.smtp.cdb", tmp_path / "new", records)
    assert doubts(tmp_path) == [found.without_kind]
    path.unlink()
    (found,) = problems(tmp_path / "tcp.smtp.cdb")
    assert found.message.startswith(f"{rule.partition(':')[0]} never applies")
    assert doubts(tmp_path) == [found.without_kind]


def test_damaged_compiled_rules_are_a_problem(tmp_path: Path) -> None:
    """Whoever starts with them lets nobody in, so that a reload is refused."""
    (tmp_path / "tcp.smtp.cdb").write_bytes(b"damaged")
    with pytest.raises(SettingsError, match="the file is damaged"):
        require_sound(tmp_path)
