"""Trouble that may pass: exit code 75 (sysexits' EX_TEMPFAIL)."""

from __future__ import annotations

import click


class TryAgain(click.ClickException):
    """What was asked for cannot be done now, and may be later."""

    exit_code = 75
