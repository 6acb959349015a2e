"""Manual pages, made of the pages in doc/: what a reader finds there and with man(1) is the same text.

``doc/programs.md`` names every program with its page and how it is called; other pages are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

from ekiden.installation.roff import render

FORMATS = {
    "addresses.5": "addresses.md",
    "dot-qmail.5": "dot-qmail.md",
    "envelopes.5": "envelopes.md",
    "maildir.5": "maildir.md",
    "mbox.5": "mbox.md",
    "qmail-control.5": "settings.md",
    "qmail-header.5": "qmail-header.md",
    "qmail-log.5": "log.md",
    "qmail-users.5": "qmail-users.md",
    "tcp-environ.5": "tcp-environ.md",
    "forgeries.7": "forgeries.md",
    "qmail.7": "qmail.md",
    "qmail-limits.7": "qmail-limits.md",
    "ekiden.8": "ekiden.md",
    "qmail-command.8": "qmail-command.md",
    "ekiden-queue.8": "queue.md",
    "ekiden-audit.8": "audit.md",
    "ekiden-install.8": "install.md",
    "ekiden-migrate.8": "migrate-sendmail.md",
    "ekiden-pop3d.8": "pop3d.md",
    "ekiden-smtpd.8": "smtpd.md",
    "ekiden-remote.8": "remote.md",
    "ekiden-local.8": "local.md",
    "ekiden-security.7": "security.md",
}
"""Pages that are no program's, by name and section."""

_ROW = re.compile(r"\| \[(?P<name>\S+)\]\((?P<page>\S+)\) \| `(?P<called>[^`]+)` \| (?P<original>[^|]+) \|.*")
_SECTION = re.compile(r"\(([18])\)")
_DAEMONS = ("qmail-", "config", "instcheck", "checkpassword", "sslserver", "tcpserver", "rblsmtpd", "new", "set")


class Page(NamedTuple):
    """A manual page: the name of its file, such as ``qmail-send.8``, and its text."""

    file: str
    text: str


def documents() -> Iterator[tuple[str, str]]:
    """The pages of doc/: name and text, in order."""
    place = files("ekiden") / "doc"
    for file in sorted(place.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".md"):
            yield file.name, file.read_text(encoding="utf-8")


def pages() -> Iterator[Page]:
    """Every manual page."""
    texts = dict(documents())
    for row in map(_ROW.fullmatch, texts["programs.md"].splitlines()):
        if row:
            section = _section(row["name"], row["original"])
            yield Page(f"{row['name']}.{section}", render(row["name"], section, texts[row["page"]], row["called"]))
    for file, source in FORMATS.items():
        name, _dot, section = file.rpartition(".")
        yield Page(file, render(name, section, texts[source]))


def _section(name: str, original: str) -> str:
    """The original's section; 8 for what administrators use, 1 for everybody's."""
    said = _SECTION.search(original)
    if said:
        return said[1]
    return "8" if name.startswith(_DAEMONS) else "1"
