"""What is allowed in the settings but seldom meant: the warnings of ``ekiden check``.

Every question is a function of the settings, or of the directory where the settings cannot say, and yields what it
finds doubtful. None of it keeps the settings from being used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ekiden.settings.catalogue import CATALOGUE, control_file
from ekiden.settings.file import shown
from ekiden.settings.lines import entries, load
from ekiden.settings.problem import Problem
from ekiden.settings.schema import FOLLOWING_ME, Settings

KNOWN_FILES = frozenset(control_file(name) for name in CATALOGUE) | {"aliases", "aliases.cdb"}


def advice(control: Path, settings: Settings | None) -> list[Problem]:
    """The warnings about the directory ``control``, and about what was read from it if it could be."""
    found = list(_unknown_files(control))
    found += _stale_compilations(control)
    if settings is not None:
        for question in QUESTIONS:
            found += question(control, settings)
    return found


def is_known(name: str) -> bool:
    """Whether ``name`` under control/ is the file of a setting, or aliases or tcp rules, which are none."""
    return name in KNOWN_FILES or name.startswith("tcp.")


def unknown_files(control: Path) -> list[str]:
    """The names under ``control`` that mean nothing here, sorted; none if it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(control) if not is_known(name))
    except OSError:
        return []


def _warning(file: str, message: str, remedy: str, line: int = 0) -> Problem:
    return Problem(file=f"control/{file}", line=line, message=message, remedy=remedy, fatal=False)


def _unknown_files(control: Path) -> Iterator[Problem]:
    for name in unknown_files(control):
        yield _warning(name, "is not the name of any setting", "correct its name, or move it away")


COMPILED = {"morercpthosts": "qmail-newmrh", "aliases": "newaliases"}
"""Files whose compiled form is used, and the program that makes it."""


def _stale_compilations(control: Path) -> Iterator[Problem]:
    for name, program in COMPILED.items():
        text, compiled = _changed(control / name), _changed(control / f"{name}.cdb")
        if text is None and compiled is not None:
            yield _warning(f"{name}.cdb", f"has no {name} beside it", f"remove it, or write {name}")
        elif text is not None and compiled is not None and compiled < text:
            yield _warning(f"{name}.cdb", f"is older than {name}", f"run {program}")


def _changed(path: Path) -> int | None:
    """When the file was last written, in nanoseconds; None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _open_relay(control: Path, settings: Settings) -> Iterator[Problem]:
    if settings.rcpthosts is None:
        yield _warning(
            "rcpthosts",
            "does not exist, so that anyone may send mail to anywhere through this host",
            "list in it the hosts that mail is accepted for",
        )


def _nowhere_to_listen(control: Path, settings: Settings) -> Iterator[Problem]:
    if not settings.listen:
        yield _warning("listen", "names no listener, so that nothing is received", "add a line as smtp *:25")
    if settings.servercert:
        return
    for listener in settings.listen:
        if listener.auth != "no" and settings.authplaintext == "never" and listener.service != "smtps":
            yield _warning(
                "listen",
                f"{listener.service} at {listener.where} has no certificate, so that nobody can log in",
                "put one, with its key, into control/servercert.pem, or let control/authplaintext be local or always",
                _line_of(control, "listen", listener.where.encode()),
            )
        if listener.service in ("smtps", "pop3s"):
            yield _warning(
                "listen",
                f"{listener.service} at {listener.where} needs a certificate",
                "put it, with its key, into control/servercert.pem",
                _line_of(control, "listen", listener.where.encode()),
            )


def _local_and_virtual(control: Path, settings: Settings) -> Iterator[Problem]:
    for domain in sorted(settings.locals & settings.virtualdomains.keys()):
        yield _warning(
            "virtualdomains",
            f"{shown(domain)} is in control/locals too, which wins",
            "remove it from one of them",
            _line_of(control, "virtualdomains", domain + b":"),
        )


def _not_accepted(control: Path, settings: Settings) -> Iterator[Problem]:
    """Domains delivered here that no SMTP client may send to. A compiled list is not looked into."""
    if settings.rcpthosts is None or settings.morercpthosts_cdb:
        return
    accepted = settings.rcpthosts | settings.morercpthosts
    virtual = {key.rpartition(b"@")[2] for key, prefix in settings.virtualdomains.items() if prefix and key}
    for file, domains in (("locals", settings.locals), ("virtualdomains", virtual)):
        for domain in sorted(domains - {b"localhost"}):
            if not is_covered(domain, accepted):
                yield _warning(
                    file,
                    f"{shown(domain)} is not in control/rcpthosts",
                    "add it there if SMTP clients shall send to it",
                    _line_of(control, file, domain),
                )


def is_covered(domain: bytes, accepted: frozenset[bytes]) -> bool:
    """Whether ``domain`` (lower-case) or a parent with a leading dot is in ``accepted`` (qmail-smtpd(8))."""
    labels = domain.split(b".")
    return domain in accepted or any(b"." + b".".join(labels[i:]) in accepted for i in range(1, len(labels)))


def _addresses_for_hosts(control: Path, settings: Settings) -> Iterator[Problem]:
    sets = (
        ("locals", settings.locals),
        ("rcpthosts", settings.rcpthosts or frozenset()),
        ("percenthack", settings.percenthack),
    )
    for file, hosts in sets:
        for host in sorted(hosts):
            if b"@" in host:
                line = _line_of(control, file, host)
                yield _warning(file, f"{shown(host)} is an address", "write the host alone, without user and @", line)


def _hosts_for_addresses(control: Path, settings: Settings) -> Iterator[Problem]:
    for file, addresses in (("badmailfrom", settings.badmailfrom), ("badrcptto", settings.badrcptto)):
        for address in sorted(addresses):
            if b"@" not in address:
                line = _line_of(control, file, address)
                yield _warning(file, f"{shown(address)} matches no address", "write user@host or @host", line)


def _routes_to_itself(control: Path, settings: Settings) -> Iterator[Problem]:
    for domain, value in settings.smtproutes.items():
        relay, _, port = value.lower().partition(b":")
        if relay in settings.locals and port in (b"", b"25"):
            yield _warning(
                "smtproutes",
                f"{shown(domain)} is sent to {shown(relay)}, which is this host",
                "name the next hop, or list the domain in control/locals",
                _line_of(control, "smtproutes", domain + b":"),
            )


def _empty_names(control: Path, settings: Settings) -> Iterator[Problem]:
    """An empty localiphost has a meaning: address literals stay as they are."""
    for name in sorted(FOLLOWING_ME - {"localiphost"}):
        if not getattr(settings, name):
            yield _warning(name, "is empty, and so is what is sent", "write a name into it, or remove it")


def _contradictions(control: Path, settings: Settings) -> Iterator[Problem]:
    if settings.concurrencydestinationstart > settings.concurrencydestination:
        yield _warning(
            "concurrencydestinationstart", "is more than concurrencydestination", "lower it, or raise that"
        )
    if settings.activebytes < settings.inlinebytes:
        yield _warning("activebytes", "is less than inlinebytes, the size of one message", "raise it")
    for key, certificate in (("serverkey", settings.servercert), ("clientkey", settings.clientcert)):
        if getattr(settings, key) and not certificate:
            yield _warning(f"{key}.pem", "has no certificate beside it", f"add control/{key[:-3]}cert.pem")


def _exposed_keys(control: Path, settings: Settings) -> Iterator[Problem]:
    for name in ("servercert", "serverkey", "clientcert", "clientkey"):
        path = getattr(settings, name)
        try:
            exposed = path and os.stat(path).st_mode & 0o004 and b"PRIVATE KEY-----" in (load(Path(path)) or b"")
        except OSError:
            continue
        if exposed:
            remedy = "chown qmailr, chmod 400" if name.startswith("client") else "chmod 640, group of qmaild"
            yield _warning(control_file(name), "shows its private key to every user", remedy)


def _line_of(control: Path, file: str, beginning: bytes) -> int:
    """The first line of ``file`` that has an entry with ``beginning`` in it, whatever its case; 0 if none has."""
    try:
        raw = load(control / file) or b""
    except OSError:
        return 0
    return next((number for number, entry in entries(raw) if beginning in entry.lower()), 0)


QUESTIONS: tuple[Callable[[Path, Settings], Iterator[Problem]], ...] = (
    _open_relay,
    _nowhere_to_listen,
    _local_and_virtual,
    _not_accepted,
    _addresses_for_hosts,
    _hosts_for_addresses,
    _routes_to_itself,
    _empty_names,
    _contradictions,
    _exposed_keys,
)
