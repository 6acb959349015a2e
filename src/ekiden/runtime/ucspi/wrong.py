"""What ends a ucspi-tcp program before it has begun."""

from __future__ import annotations

import sys

_DIGITS = 20
"""More than any number has: int() raises for thousands of them."""


class WrongUse(Exception):
    """The command line is no good; the text, unless empty, says why."""


class Fatal(Exception):
    """It cannot be done now; the text says what and why."""


def number(name: str, text: str) -> int:
    """An option's number. Nothing else will do: a user's name taken for 0 would keep root's rights.

    ``name`` is the option with its hyphen, or the variable. Raises WrongUse.
    """
    if not text.isdecimal() or not text.isascii() or len(text) > _DIGITS or int(text) > 0x7FFFFFFF:
        raise WrongUse(f"{name}: not a number: {text}")
    return int(text)


def say_usage(name: str, usage: str, reason: object = "") -> int:
    """Say how the program ``name`` is used, and first, if that is known, what is wrong; its exit code."""
    if str(reason):
        print(f"{name}: {reason}", file=sys.stderr)
    print(f"{name}: usage: {name} {usage}", file=sys.stderr)
    return 100
