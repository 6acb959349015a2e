"""The one table of what a home holds, by which it is laid out (``ekiden install``) and checked (``instcheck``).

What is in alias/, control/, users/, queue/, run/ and log/ is not in it: that is the administrator's, or the mail.
"""

from __future__ import annotations

import enum
import stat
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from ekiden.installation.accounts import Owners
from ekiden.installation.manual import documents, pages
from ekiden.installation.scripts import texts

QUEUE = "queue"


class Entry(NamedTuple):
    """A directory, or a file if it has ``text``. ``path`` is relative to the home and empty for the home itself."""

    path: str
    owner: str = "root"
    group: str = "qmail"
    modes: tuple[int, ...] = (0o755,)
    """The modes that are right; the first is what it is installed with."""
    text: str | None = None


class Fault(enum.Enum):
    """How a file can differ from its entry, in instcheck's words."""

    MISSING = "does not exist"
    OWNER = "has wrong owner"
    GROUP = "has wrong group"
    MODE = "has wrong permissions"
    TYPE = "has wrong type"


_DIRECTORIES = (
    Entry(""),
    Entry("control"),
    Entry("users"),
    Entry("bin"),
    Entry("boot"),
    Entry("doc"),
    Entry("man"),
    *(Entry(f"man/man{section}") for section in (1, 5, 7, 8)),
    # Whoever makes files here makes them for alias's group. A user's own groups may not allow the bit.
    Entry("alias", "alias", "qmail", (0o2755,)),
    # qmail-send lets its group search the queue; ekiden's own queue role needs nobody else there.
    Entry(QUEUE, "qmailq", "qmail", (0o750, 0o700)),
    Entry("run"),
    Entry("log", "qmaill", "nofiles"),
)


def tree(home: Path, owners: Owners) -> Iterator[Entry]:
    """Every entry of a home, directories before what is in them."""
    for entry in _DIRECTORIES:
        if entry.path == "alias" and not owners.are_qmails:
            yield entry._replace(modes=(0o755, 0o2755))
        else:
            yield entry
    for name, text in sorted(texts(home).items()):
        yield Entry(f"bin/{name}", text=text)
    for name, text in _boot_scripts():
        yield _unit(name, text, home) if name.endswith(".service") else _boot_script(name, text, home)
    for name, text in documents():
        yield Entry(f"doc/{name}", modes=(0o644,), text=text)
    for page in pages():
        section = page.file.rpartition(".")[2]
        yield Entry(f"man/man{section}/{page.file}", modes=(0o644,), text=page.text)


def _boot_script(name: str, text: str, home: Path) -> Entry:
    return Entry(f"boot/{name}", text=text.replace("@HOME@", str(home)))


def _unit(name: str, text: str, home: Path) -> Entry:
    """systemd's unit with the paths of this home and this ekiden; a percent sign is special there."""
    paths = {"/var/qmail": str(home), "/usr/local/bin/ekiden": str(Path(sys.executable).parent / "ekiden")}
    for usual, here in paths.items():
        text = text.replace(usual, here.replace("%", "%%"))
    return Entry(f"boot/{name}", modes=(0o644,), text=text)


def _boot_scripts() -> list[tuple[str, str]]:
    """Name and content."""
    place = files("ekiden") / "boot"
    return sorted((file.name, file.read_text(encoding="utf-8")) for file in place.iterdir() if file.is_file())


def faults(home: Path, entry: Entry, owners: Owners) -> list[Fault]:
    """What is wrong with an entry's file, links followed; OSError if that cannot be found out."""
    try:
        status = (home / entry.path).stat()
    except FileNotFoundError:
        return [Fault.MISSING]
    found = []
    if status.st_uid != owners.uid(entry.owner):
        found.append(Fault.OWNER)
    if owners.are_qmails and status.st_gid != owners.gid(entry.group):
        found.append(Fault.GROUP)
    if stat.S_IMODE(status.st_mode) not in entry.modes:
        found.append(Fault.MODE)
    if stat.S_IFMT(status.st_mode) != (stat.S_IFDIR if entry.text is None else stat.S_IFREG):
        found.append(Fault.TYPE)
    return found
