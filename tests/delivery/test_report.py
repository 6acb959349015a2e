"""Texts of reports, and which errors may pass."""

from __future__ import annotations

import errno

import pytest

from ekiden.base.outcome import Verdict
from ekiden.delivery.report import DEFERRED, DELIVERED, FAILED, REPORT_OCTETS, cut, is_temporary, readable, unable


def test_the_verdicts_are_the_outcomes() -> None:
    assert (DELIVERED, DEFERRED, FAILED) == (Verdict.DELIVERED, Verdict.DEFERRED, Verdict.FAILED)


def test_a_failed_call() -> None:
    trouble = unable("write x", OSError(errno.EIO, ""), "4.2.1")
    assert trouble.verdict == DEFERRED
    assert trouble.text == "Unable to write x: Input/output error. (#4.2.1)"


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.2.2")])
def test_no_space_has_its_own_code(code: int, status: str) -> None:
    assert unable("write x", OSError(code, "")).text.endswith(f"(#{status})")


def test_temporary_errors() -> None:
    assert is_temporary(OSError(errno.EIO, ""))
    assert not is_temporary(OSError(errno.ENOENT, ""))


def test_octets_are_shown() -> None:
    assert readable("jürgen".encode() + b"\xff") == "jürgen\\xff"


def test_long_output_is_cut() -> None:
    assert cut(b"a\nb\n") == b"a\nb\n"
    assert cut(b"a\0b") == b"a"
    assert len(cut(b"x" * 10_000)) == REPORT_OCTETS
    assert cut(b"x" * 10_000).endswith(b"cut off.\n")
