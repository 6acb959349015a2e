"""What a migration, or an import, has found and done, as lines for people or as JSON objects."""

from __future__ import annotations

import json
from typing import Any

import click

from ekiden.commands.terminal import plain
from ekiden.migration.finding import Kind, Report
from ekiden.migration.plan import Step

_VERBS = {
    True: {"write": "wrote", "complete": "completed", "replace": "replaced"},
    False: {"write": "would write", "complete": "would complete", "replace": "would replace"},
}


def tell(report: Report, steps: list[Step], totals: dict[str, Any], apply: bool, as_json: bool) -> None:
    """Print findings, files and totals. ``apply``: the files were written."""
    tell_findings(report, as_json)
    if as_json:
        for step in steps:
            _line({"file": step.path, "action": step.action, "applied": apply and step.changes, "lines": step.lines})
        _line({"applied": apply, **{kind.value: report.count(kind) for kind in Kind}, **totals})
        return
    for step in steps:
        if step.changes:
            click.echo(f"{_VERBS[apply][step.action]} {step.path} ({len(step.lines)} lines)")
        elif step.action == "keep":
            _words(f"kept {step.path}, which says something else; --replace for: {' | '.join(step.lines)}")
    for name, total in totals.items():
        click.echo(f"{name}: " + ", ".join(f"{count} {what}" for what, count in total.items()))
    click.echo(", ".join(f"{report.count(kind)} {kind.value}" for kind in Kind))
    if not apply:
        click.echo("nothing was changed; --apply does it")
    elif any(step.changes for step in steps):
        click.echo("ekiden start, or ekiden reload if it runs, makes this take effect")


def tell_findings(report: Report, as_json: bool) -> None:
    """Print what was found, a line each."""
    for finding in report.findings:
        if as_json:
            place = {"file": finding.place.file, "line": finding.place.line}
            _line({"finding": finding.kind.value, **place, "text": finding.text, "remedy": finding.remedy})
        else:
            _words(str(finding))


def _words(text: str) -> None:
    click.echo(plain(text))


def _line(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value))
