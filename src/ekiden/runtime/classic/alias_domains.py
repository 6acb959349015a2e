"""The domains that complete addresses in alias files, read from control/ as fastforward's programs do."""

from __future__ import annotations

from ekiden.routing.aliases import Domains
from ekiden.settings.lines import control_line


def read_domains(home: str) -> Domains:
    """From defaulthost, defaultdomain and plusdomain, each else ``me``; OSError if a file cannot be read."""
    me = control_line(home, "me") or b"me"
    host, domain, plus = (control_line(home, name) for name in ("defaulthost", "defaultdomain", "plusdomain"))
    return Domains(host or me, domain or me, plus or me)
