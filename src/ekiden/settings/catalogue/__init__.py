"""What every setting means and may be: the source of the reader, qmail-showctl, the checks and docs/settings.md.

Facts about qmail's files are from qmail-control(5) and the manual pages of the programs named there.
"""

from __future__ import annotations

from collections.abc import Mapping

from ekiden.settings.catalogue.keeping import BOUNCES, PROCESSES, QUEUE, ROUTING
from ekiden.settings.catalogue.pop3 import POP3
from ekiden.settings.catalogue.receiving import NAMES, RECEIVING
from ekiden.settings.catalogue.sending import SENDING, TLS
from ekiden.settings.description import Setting

CHAPTERS: Mapping[str, Mapping[str, Setting]] = {
    "Names of this host": NAMES,
    "Receiving": RECEIVING,
    "Routing and local delivery": ROUTING,
    "Sending": SENDING,
    "The queue": QUEUE,
    "Bounces": BOUNCES,
    "TLS": TLS,
    "POP3": POP3,
    "Processes and logs": PROCESSES,
}
CATALOGUE: Mapping[str, Setting] = {
    name: setting for chapter in CHAPTERS.values() for name, setting in chapter.items()
}
"""Every setting's description by the setting's name."""


def control_file(name: str) -> str:
    """The name under control/ of the file that holds the setting ``name``."""
    return CATALOGUE[name].file or name
