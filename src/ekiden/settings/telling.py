"""The settings told in sentences, one paragraph for each control file: qmail-showctl's report (qmail-showctl(8)).

Nothing here is fatal. A file that cannot be used is told as such, and the others are told as they are, because the
report is what somebody reads when something is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ekiden.settings.advice import unknown_files
from ekiden.settings.catalogue import CATALOGUE, control_file
from ekiden.settings.description import MANY, Kind, Setting
from ekiden.settings.file import ControlFile
from ekiden.settings.lines import first_line, load
from ekiden.settings.schema import FOLLOWING_ME, default
from ekiden.settings.values import parse


def tell(control: Path) -> Iterator[str]:
    """The report's paragraphs, each ended by a newline: every setting by its file's name, then the unknown files."""
    me = _me(control)
    for name in sorted(CATALOGUE, key=control_file):
        yield f"{control_file(name)}: {_tell_one(name, CATALOGUE[name], control, me)}\n"
    for name in unknown_files(control):
        yield f"{printable(os.fsencode(name))}: I have no idea what this file does.\n"


def printable(octets: bytes) -> str:
    """``octets`` with a question mark for everything that is not printable ASCII."""
    return "".join(chr(octet) if 32 <= octet <= 126 else "?" for octet in octets)


def _me(control: Path) -> bytes:
    try:
        return first_line(load(control / "me") or b"")
    except OSError:
        return b""


def _tell_one(name: str, setting: Setting, control: Path, me: bytes) -> str:
    path = control / control_file(name)
    if name == "morercpthosts_cdb":
        return _tell_compilation(control / "morercpthosts", path)
    if setting.kind is Kind.FILE:
        return setting.sentence.format(printable(bytes(path))) if path.exists() else f"(Default.) {setting.absent}"
    try:
        raw = load(path)
    except OSError as error:
        return f"Oops! This file cannot be read: {error.strerror}."
    if raw is None:
        return f"(Default.) {_tell_default(name, setting, me)}"
    file = ControlFile(path.name, raw)
    value = parse(name, setting, file)
    if trouble := [problem for problem in file.problems if problem.fatal]:
        return "\n".join(f"Oops! Line {problem.line}: {problem.message}; {problem.remedy}." for problem in trouble)
    if setting.kind in MANY:
        return _tell_many(name, setting, file, control)
    if value is None:
        return f"(Default.) {_tell_default(name, setting, me)}"
    return _tell_value(setting, value)


def _tell_many(name: str, setting: Setting, file: ControlFile, control: Path) -> str:
    """A sentence for each entry, on lines of their own."""
    sentences = [setting.sentence.format(printable(entry)) for _, entry in file.entries()]
    if name == "morercpthosts" and not (control / "rcpthosts").exists():
        sentences.insert(0, "Without rcpthosts this file changes nothing.")
    return "\n" + "\n".join(sentences or ["No entries."])


def _tell_default(name: str, setting: Setting, me: bytes) -> str:
    if name == "me":
        return "This host has no name yet! Nothing works without this file."
    if setting.absent:
        return setting.absent
    # Without me, the programs that can do without fall back on a file's own name.
    return _tell_value(setting, (me or name.encode()) if name in FOLLOWING_ME else default(name))


def _tell_value(setting: Setting, value: object) -> str:
    if isinstance(value, bytes):
        return setting.sentence.format(printable(value))
    if not value and setting.absent:
        return setting.absent
    return setting.sentence.format(int(value) if isinstance(value, bool) else value)


def _tell_compilation(text: Path, compiled: Path) -> str:
    """How morercpthosts.cdb stands to the file it is made from."""
    if not compiled.exists():
        return "Oops! It is missing; run qmail-newmrh." if text.exists() else "(Default.) There is none."
    if not text.exists():
        return "Oops! There is no morercpthosts that it could have been made from."
    if compiled.stat().st_mtime < text.stat().st_mtime:
        return "Oops! It is older than morercpthosts; run qmail-newmrh."
    return "It is no older than morercpthosts."
