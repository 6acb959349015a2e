"""What programs that are started for every message load before they do anything; see python -m bench.starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"msgspec", "asyncio", "uvloop", "dataclasses", "ssl", "sqlite3", "subprocess", "click", "rich"}
SOME = {"typing", "pathlib", "inspect", "datetime", "tempfile"}
LIGHT = {"re", "enum", "collections", "contextlib", "functools"}
"""Half a millisecond to five of CPU each."""


@pytest.mark.parametrize(
    ("programs", "not_loaded"),
    [
        ("addcr delcr maildirmake", HEAVY | SOME | LIGHT),
        ("bouncesaying except preline tcp_env predate", HEAVY | SOME | {"re"}),
        ("qmail_inject qmail_queue sendmail qmail_local qmail_getpw", HEAVY | SOME),
        ("forward condredirect qbiff qreceipt mailsubj qail maildirwatch", HEAVY | SOME),
        ("qmail_smtpd qmail_popup qmail_pop3d qmail_remote", HEAVY - {"msgspec"}),
    ],
)
def test_what_is_not_loaded(programs: str, not_loaded: set[str]) -> None:
    code = "import sys, importlib, ekiden.cli\n"
    code += f"for name in {programs.split()}: importlib.import_module('ekiden.programs.' + name)\n"
    assert not not_loaded & (modules(code) - modules("import sys\n"))


def modules(code: str) -> set[str]:
    run = subprocess.run([sys.executable, "-c", code + "print(*sys.modules)"], capture_output=True, check=True)
    return set(run.stdout.decode().split())
