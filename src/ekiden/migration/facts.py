"""What sendmail's own configuration says, whether it was read from sendmail.mc or from sendmail.cf."""

from __future__ import annotations

from dataclasses import dataclass, field

from ekiden.migration.finding import Said


@dataclass
class Facts:
    """Keys of ``options`` are names as in sendmail.cf, those of ``tables`` and ``features`` as in FEATURE()."""

    hosts: list[Said] = field(default_factory=list)
    """Class w: names of this host."""
    host_files: list[Said] = field(default_factory=list)
    relays: list[Said] = field(default_factory=list)
    """Class R: who may relay, and to where."""
    relay_files: list[Said] = field(default_factory=list)
    virtual: list[Said] = field(default_factory=list)
    """Class VirtHost: domains of virtusertable that are not in class w."""
    virtual_files: list[Said] = field(default_factory=list)
    generics: list[Said] = field(default_factory=list)
    generics_files: list[Said] = field(default_factory=list)
    tables: dict[str, Said] = field(default_factory=dict)
    features: dict[str, Said] = field(default_factory=dict)
    options: dict[str, Said] = field(default_factory=dict)
    listeners: list[Said] = field(default_factory=list)
    name: Said | None = None
    smart_host: Said | None = None
    smart_port: int = 0
    masquerade: Said | None = None
    unknown_users: Said | None = None
    """LUSER_RELAY: where mail for local users goes that do not exist."""
    hub: Said | None = None
    """MAIL_HUB, or the hub of a null client: where all local mail goes."""


TABLES = ("access", "virtusertable", "mailertable", "genericstable")
"""Tables, by the names of their files in /etc/mail."""
