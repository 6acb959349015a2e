"""A TCP connection as programs see it in their environment, and as it is logged (tcp-environ(5), UCSPI-1996).

IPv4 connections look as they do with ucspi-tcp. IPv6 ones look as with its IPv6 patch: PROTO is TCP6, and every
variable is there a second time with TCP6 in front.
"""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from ekiden.runtime.ucspi.place import MAPPED

_SHOWN = 100
"""Octets of a name in the log."""


class Ends(NamedTuple):
    """Both ends' addresses and ports, and the interface for link-local IPv6."""

    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    interface: str | None = None

    @property
    def is_ipv6(self) -> bool:
        """Whether programs are told of IPv6."""
        return ":" in self.local_ip


class Names(NamedTuple):
    """What was found out besides: None where nobody asked or said."""

    local_host: bytes | None = None
    remote_host: bytes | None = None
    remote_info: bytes | None = None


class Search(NamedTuple):
    """What to find out: the options -l, -h, -p, -r and -t."""

    local_name: bytes | None = None
    remote_host: bool = True
    paranoid: bool = False
    remote_info: bool = True
    info_timeout: float = 26.0

    @property
    def is_free(self) -> bool:
        """Whether nobody else has to be asked."""
        return self.local_name is not None and not self.remote_host and not self.remote_info


def shown(ip: str, as_ipv6: bool) -> str:
    """An address from the kernel: IPv4 without IPv6's clothing, or, with -6, never without."""
    plain = ip.partition("%")[0].removeprefix(MAPPED)
    return MAPPED + plain if as_ipv6 and ":" not in plain else plain


def ends_of(local: object, remote: object, as_ipv6: bool) -> Ends:
    """The ends as getsockname and getpeername (or accept) give them. Raises OSError if this is no TCP."""
    if not isinstance(local, tuple) or not isinstance(remote, tuple):
        raise OSError(0, "no TCP connection")
    interface = None
    if len(local) > 3 and local[3]:
        interface = socket.if_indextoname(local[3])
    return Ends(shown(local[0], as_ipv6), local[1], shown(remote[0], as_ipv6), remote[1], interface)


def find_out(ends: Ends, search: Search) -> Names:
    """Ask DNS and the other host. Takes as long as they let us wait; never raises."""
    local, remote, info = search.local_name, None, None
    if local is None or search.remote_host:
        from ekiden.runtime.ucspi import stub

        if local is None:
            local = stub.name_of(ends.local_ip)
        if search.remote_host:
            remote = stub.name_of(ends.remote_ip)
            if remote is not None and search.paranoid and not _belongs(remote, ends.remote_ip):
                remote = None
    if search.remote_info:
        from ekiden.runtime.ident import remote_user

        here, there = (ends.local_ip, ends.local_port), (ends.remote_ip, ends.remote_port)
        info = remote_user(here, there, search.info_timeout)
    return Names(local, remote, None if info is None else info.partition(b"\0")[0])


def _belongs(name: bytes, ip: str) -> bool:
    from ekiden.runtime.ucspi import stub
    from ekiden.wire import dns

    plain = ip.removeprefix(MAPPED)
    try:
        return plain in stub.addresses_of(name, (dns.AAAA if ":" in plain else dns.A,))
    except OSError:
        return False


def describe(ends: Ends, names: Names, prefix: str = "TCP") -> dict[bytes, bytes | None]:
    """The variables, None for those to be removed."""
    parts: dict[str, bytes | None] = {
        "LOCALIP": ends.local_ip.encode(),
        "LOCALPORT": b"%d" % ends.local_port,
        "LOCALHOST": names.local_host,
        "REMOTEIP": ends.remote_ip.encode(),
        "REMOTEPORT": b"%d" % ends.remote_port,
        "REMOTEHOST": names.remote_host,
        "REMOTEINFO": names.remote_info,
    }
    if ends.is_ipv6:
        parts["INTERFACE"] = None if ends.interface is None else os.fsencode(ends.interface)
    found: dict[bytes, bytes | None] = {}
    for front in (prefix, f"{prefix}6") if ends.is_ipv6 else (prefix,):
        found[b"PROTO"] = front.encode()
        for name, value in parts.items():
            found[(front + name).encode()] = value
    return found


def merge(environment: dict[bytes, bytes], variables: dict[bytes, bytes | None]) -> None:
    """Set and remove variables."""
    for name, value in variables.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value


def verdict_line(program: str, word: str, pid: int, ends: Ends, names: Names) -> bytes:
    """The log's line on a connection: ``word`` is ok or deny."""
    local = b"%b:%b:%d" % (safe(names.local_host or b""), ends.local_ip.encode(), ends.local_port)
    remote = b"%b:%b:%b:%d" % (
        safe(names.remote_host or b""),
        ends.remote_ip.encode(),
        safe(names.remote_info or b""),
        ends.remote_port,
    )
    return b"%b: %b %d %b %b\n" % (program.encode(), word.encode(), pid, local, remote)


def safe(text: bytes) -> bytes:
    """Octets from others as the log may have them: none that means something to who reads logs, and not too many."""
    visible = bytes(octet if 33 <= octet <= 126 and octet not in b"%:" else 63 for octet in text[:_SHOWN])
    return visible + b"..." if len(text) >= _SHOWN else visible
