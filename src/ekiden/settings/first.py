"""A home's first configuration: the control files that qmail's ``config`` and ``config-fast`` make, and the listener.

``me``, ``defaultdomain``, ``plusdomain``, ``locals`` and ``rcpthosts`` are written so that out of the box the host
accepts mail for itself and for nobody else: rcpthosts comes first and me, without which nothing starts, last.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from ekiden.settings.addresses import own_addresses
from ekiden.settings.lines import entries, load

DIRECTORIES = ("alias", "bin", "boot", "control", "doc", "man", "queue", "users", "run", "log")
"""What a home holds."""

ALIASES = ("postmaster", "mailer-daemon", "root")

_HOST_NAME = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)

Say = Callable[[str], None]
"""Takes a line for the person who configures, without newline."""


class ConfigurationError(Exception):
    """The first configuration was not made; the text says why and what to do."""


class Resolver(msgspec.Struct, frozen=True):
    """Where names and addresses are looked up. The functions raise OSError for what is not found."""

    hostname: Callable[[], str] = socket.gethostname
    forward: Callable[[str], tuple[str, list[str]]] = lambda host: _forward(host)
    """The canonical name and the addresses of a host."""
    reverse: Callable[[str], str] = lambda address: socket.gethostbyaddr(address)[0]
    addresses: Callable[[], list[str]] = lambda: [each for each in own_addresses() if not each.startswith("fe80:")]
    """Those of the interfaces, but the link-local ones, which no DNS knows."""


def default_domain(name: str) -> str:
    """``name`` without its first label, if more than two labels are there: indy2.nix.co.jj gives nix.co.jj."""
    first, _, rest = name.partition(".")
    return rest if first and "." in rest else name


def plus_domain(name: str) -> str:
    """The last two labels of ``name``, or all of it if there are no more: indy2.nix.co.jj gives co.jj."""
    return ".".join(name.split(".")[-2:])


def make_home(home: Path) -> None:
    """Make the home and the directories in it that do not exist yet; OSError if that fails.

    Everyone may enter them, whatever the umask: the roles are other users than root.
    """
    for directory in (home, *(home / name for name in DIRECTORIES)):
        if not directory.is_dir():
            directory.mkdir(parents=True)
            directory.chmod(0o755)


def make_aliases(home: Path) -> None:
    """Make the mailboxes that RFC 5321 and bounces need, each an empty .qmail file: default delivery in alias/."""
    for name in ALIASES:
        path = home / "alias" / f".qmail-{name}"
        if not path.exists():
            path.touch()
            path.chmod(0o644)


def write_listen(home: Path, places: Sequence[str], service: str = "smtp") -> None:
    """Write control/listen with one listener for each of ``places`` (``ADDRESS:PORT``)."""
    write(home / "control" / "listen", [f"{service} {place}" for place in places])


def require_control(home: Path) -> None:
    """``ConfigurationError`` if there is nowhere to write to."""
    if not (home / "control").is_dir():
        raise ConfigurationError(f"There is no directory {home / 'control'}.")


def configure(home: Path, name: str, say: Say, prepare: Callable[[Path], None] = require_control) -> None:
    """What ``config-fast NAME`` does: no DNS, and the name is all there is; ``ConfigurationError``.

    ``prepare`` is called for the home when it is known that files will be written.
    """
    require_host_name(name)
    require_unconfigured(home)
    prepare(home)
    say(f"This host's fully qualified name is {name}.")
    control = home / "control"
    hosts = {file: appended(control / file, [name]) for file in ("rcpthosts", "locals")}
    _write_all(control, name, hosts)
    _say_names(name, say)
    for file in ("locals", "rcpthosts"):
        say(f"Putting {name} into control/{file}...")
    _say_refusal(name, say)


def configure_by_dns(
    home: Path, say: Say, resolver: Resolver | None = None, prepare: Callable[[Path], None] = require_control
) -> None:
    """What ``config`` does: the host's name and those of its addresses come from DNS; ``ConfigurationError``.

    Nothing is written, and ``prepare`` not called, if the host's canonical name is not found.
    """
    resolver = resolver or Resolver()
    require_unconfigured(home)
    host = resolver.hostname().lower()
    say(f"This host calls itself {host}.")
    name, addresses = canonical_name(host, resolver)
    say(f"Its canonical name in DNS is {name}.")
    prepare(home)
    named = local_names(sorted({*addresses, *resolver.addresses()}), resolver)
    hosts = list(dict.fromkeys([name, *(local for _, local in named if local)]))
    _write_all(home / "control", name, {"rcpthosts": hosts, "locals": hosts})
    _say_names(name, say)
    _say_locals(named, say)
    say("Copying control/locals to control/rcpthosts...")
    _say_refusal("those hosts", say)


def canonical_name(host: str, resolver: Resolver) -> tuple[str, list[str]]:
    """The fully qualified name of ``host``, in lower case, and its addresses.

    It is the name of the host's first address, or, if that has none, the one that its CNAME records lead to. A name
    without a dot is none: it comes from /etc/hosts, and nobody could reply to it.
    """
    try:
        canonical, addresses = resolver.forward(host)
    except (OSError, UnicodeError):
        canonical, addresses = "", []
    for name in (_reverse(addresses[0], resolver) if addresses else "", canonical):
        if "." in name and _HOST_NAME.fullmatch(name):
            return name.lower(), addresses
    raise ConfigurationError(
        "Sorry, could not find this host's canonical name in DNS.\ncontrol/me must be set up by hand."
    )


def local_names(addresses: Iterable[str], resolver: Resolver) -> list[tuple[str, str]]:
    """Each address with its name in lower case, empty if it has none."""
    return [(address, _reverse(address, resolver).lower()) for address in addresses]


def require_host_name(name: str) -> None:
    """``ConfigurationError`` unless ``name`` can be a host's."""
    if len(name) > 253 or not _HOST_NAME.fullmatch(name):
        raise ConfigurationError(f'"{name}" is not a host name; give the fully qualified one, as mail.example.org.')


def require_unconfigured(home: Path) -> None:
    """``ConfigurationError`` if there is a control/me. The home itself need not exist yet."""
    if os.path.lexists(home / "control" / "me"):
        raise ConfigurationError("control/me exists, so this host is configured already. Remove it to start afresh.")


def appended(path: Path, hosts: Sequence[str]) -> list[str]:
    """The lines of the file at ``path`` and those of ``hosts`` that it does not have as entries yet."""
    raw = load(path) or b""
    present = {entry.lower() for _, entry in entries(raw)}
    lines = raw.decode("utf-8", "surrogateescape").splitlines()
    return lines + [host for host in hosts if host.lower().encode() not in present]


def write(path: Path, lines: Sequence[str]) -> None:
    """Replace the file at ``path`` in one step, readable by everyone; OSError if that fails."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    text = "".join(f"{line}\n" for line in lines)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _write_all(control: Path, name: str, hosts: dict[str, list[str]]) -> None:
    for file, lines in hosts.items():
        write(control / file, lines)
    write(control / "plusdomain", [plus_domain(name)])
    write(control / "defaultdomain", [default_domain(name)])
    write(control / "me", [name])


def _say_names(name: str, say: Say) -> None:
    for file, value in (("me", name), ("defaultdomain", default_domain(name)), ("plusdomain", plus_domain(name))):
        say(f"Putting {value} into control/{file}...")


def _say_locals(named: Iterable[tuple[str, str]], say: Say) -> None:
    say("")
    say("This host's IP addresses:")
    for address, local in named:
        if local:
            say(f"{address}: Adding {local} to control/locals...")
        else:
            say(f"{address}: It has no name in DNS.")
    say("")
    say("Other domain names of this host must be added to control/locals by hand, except")
    say("aliases, that is, names with a CNAME record.")
    say("")


def _say_refusal(hosts: str, say: Say) -> None:
    say(f"SMTP messages are refused from now on, except to {hosts}.")
    say("Remember: what is added to locals or virtualdomains has to be added to rcpthosts too.")


def _forward(host: str) -> tuple[str, list[str]]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    return found[0][3] or "", list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _reverse(address: str, resolver: Resolver) -> str:
    try:
        return resolver.reverse(address)
    except (OSError, UnicodeError):
        return ""
