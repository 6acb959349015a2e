"""Trouble that commands tell of in one way."""

from __future__ import annotations

from pathlib import Path

import click


class TryAgain(click.ClickException):
    """What was asked for cannot be done now, and may be later (sysexits' EX_TEMPFAIL)."""

    exit_code = 75


def unusable(error: OSError, otherwise: Path | None = None) -> click.ClickException:
    """A file that cannot be used; it is ``otherwise`` where the error names none."""
    return click.ClickException(f"{error.filename or otherwise}: {error.strerror}")


def require_configured(home: Path) -> None:
    """ClickException for a home without control files."""
    if not (home / "control").is_dir():
        raise click.ClickException(f"{home}: not configured; first: ekiden --home {home} config FQDN")
