"""The reasons for a decision, with the files and lines that people find in control/."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.routing.explain import explain, find_line
from ekiden.routing.route import Router
from ekiden.settings.schema import Settings

CONTROL = {
    "me": "me.example\n",
    "percenthack": "hack.example\n",
    "locals": "# ours\nlocalhost\nMe.example\n",
    "virtualdomains": "virtual.example:joe\nno.fax:\n.fax:uucp\n",
    "smtproutes": "old.example:a\n:[192.168.1.1]:26\ndirect.example:\nold.example:b\n",
}

SETTINGS = Settings(
    me=b"me.example",
    locals=frozenset({b"localhost", b"me.example"}),
    percenthack=frozenset({b"hack.example"}),
    virtualdomains={b"virtual.example": b"joe", b"no.fax": b"", b".fax": b"uucp"},
    smtproutes={b"": b"[192.168.1.1]:26", b"direct.example": b"", b"old.example": b"b"},
)


@pytest.fixture
def control(tmp_path: Path) -> Path:
    for name, content in CONTROL.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("recipient", "reasons"),
    [
        (b"a@me.example", ["a@me.example is local: me.example is in locals (control/locals, line 3)"]),
        (
            b"a@b.fax",
            ["a@b.fax becomes uucp-a@b.fax and is local: .fax is virtual (control/virtualdomains, line 3)"],
        ),
        (
            b"a%no.fax@Hack.example",
            [
                "a%no.fax@Hack.example becomes a@no.fax: the percent hack applies to hack.example"
                " (control/percenthack, line 1)",
                "no.fax is an exception: not virtual (control/virtualdomains, line 2)",
                "a@no.fax is remote: every other domain goes to [192.168.1.1] port 26 (control/smtproutes, line 2)",
            ],
        ),
        (
            b"a@direct.example",
            [
                "a@direct.example is remote: direct.example goes to the mail exchangers of direct.example"
                " (control/smtproutes, line 3)"
            ],
        ),
        (b"a@old.example", ["a@old.example is remote: old.example goes to b port 25 (control/smtproutes, line 4)"]),
        (
            b"a",
            [
                "a@me.example: a domain is put to an address without @ (control/me, line 1)",
                "a@me.example is local: me.example is in locals (control/locals, line 3)",
            ],
        ),
    ],
)
def test_reasons(control: Path, recipient: bytes, reasons: list[str]) -> None:
    assert [str(reason) for reason in explain(Router(SETTINGS), recipient, control)] == reasons


def test_without_routes_no_file_is_named() -> None:
    router = Router(Settings(me=b"me.example", locals=frozenset()))
    [reason] = explain(router, b"a@far.example", None)
    assert str(reason) == "a@far.example is remote: the mail exchangers of far.example"


def test_lines_are_found_as_qmail_reads_them(control: Path) -> None:
    (control / "x").write_text("#a:1\na\na:2 \nA:3\t\n\n:4")
    assert find_line(control, "x", b"a", keyed=True) == 4
    assert find_line(control, "x", b"a") == 2
    assert find_line(control, "x", b"", keyed=True) == 6
    assert find_line(control, "x", b"") == 0
    assert find_line(control, "absent", b"a") == 0
