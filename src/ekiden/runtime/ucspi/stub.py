"""DNS look-ups of programs that wait for them: addresses of a name, the name of an address, a text.

The servers are those of DNSCACHEIP (addresses with a dot between them), else of /etc/resolv.conf, else 127.0.0.1.
Each is asked in turn and waited for 1, then 3, 11 and 45 seconds, as dns_transmit(3) of djbdns does.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_address

from ekiden.wire import dns

RESOLV_CONF = "/etc/resolv.conf"
HOSTS = "/etc/hosts"
PORT = 53
PATIENCE = (1, 3, 11, 45)
"""Seconds for an answer, round by round."""

_OCTETS_OF_UDP = 4096


def servers() -> list[str]:
    """The addresses of the servers to ask."""
    dotted = os.environ.get("DNSCACHEIP", "")
    found = [dotted] if ":" in dotted else _quadruples(dotted)
    if not found:
        found = [words[1] for words in _resolv_conf() if words[0] == "nameserver"]
    return found or ["127.0.0.1"]


def _quadruples(dotted: str) -> list[str]:
    numbers = dotted.split(".") if dotted else []
    return [".".join(numbers[at : at + 4]) for at in range(0, len(numbers) - 3, 4)]


def suffixes() -> list[str]:
    """What is put behind a name without a dot: LOCALDOMAIN's words, else those of ``search`` or ``domain``."""
    if "LOCALDOMAIN" in os.environ:
        return os.environ["LOCALDOMAIN"].split()
    for words in _resolv_conf():
        if words[0] in ("search", "domain"):
            return words[1:]
    domain = socket.gethostname().partition(".")[2]
    return [domain] if domain else []


def _resolv_conf() -> list[list[str]]:
    try:
        with open(RESOLV_CONF) as file:
            return [words for words in map(str.split, file) if len(words) > 1]
    except (OSError, UnicodeDecodeError):
        return []


def look_up(name: bytes, kind: int) -> Sequence[bytes]:
    """The data of the records of a name, empty if there are none. Raises OSError if nobody says.

    A name that cannot exist has no records.
    """
    number = int.from_bytes(os.urandom(2), "big")
    try:
        query = dns.encode_query(number, name, kind)
    except dns.BadName:
        return ()
    failure: OSError = TimeoutError(errno.ETIMEDOUT, "timed out")
    for seconds in PATIENCE:
        for server in servers():
            try:
                return _ask(server, query, seconds)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError):
                    failure = error
    raise failure


def _ask(server: str, query: bytes, seconds: float) -> Sequence[bytes]:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.connect((server, PORT))
        connection.send(query)
        answer = _datagram(connection, query, time.monotonic() + seconds)
    if answer.truncated:
        answer = _by_tcp(server, query, seconds)
    if answer.code not in (dns.NO_ERROR, dns.NAME_ERROR):
        raise OSError(errno.EAGAIN, "the server cannot say")
    return answer.data


def _datagram(connection: socket.socket, query: bytes, deadline: float) -> dns.Answer:
    while True:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        packet = connection.recv(_OCTETS_OF_UDP)
        try:
            return dns.decode_answer(packet, query)
        except dns.BadAnswer:
            # Perhaps forged: the true one may still come.
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "timed out") from None


def _by_tcp(server: str, query: bytes, seconds: float) -> dns.Answer:
    with socket.create_connection((server, PORT), seconds + 10) as connection:
        connection.sendall(len(query).to_bytes(2, "big") + query)
        with connection.makefile("rb") as file:
            size = int.from_bytes(file.read(2), "big")
            return dns.decode_answer(file.read(size), query)


def name_of(address: str) -> bytes | None:
    """The name of an IP address in lower case; None if it has none or nobody says."""
    try:
        names = look_up(ip_address(address.partition("%")[0]).reverse_pointer.encode(), dns.PTR)
    except (OSError, ValueError):
        return None
    return next((name for name in names if name), None)


def addresses_of(name: bytes, families: Sequence[int] = (dns.A,)) -> list[str]:
    """The addresses of a fully qualified name. Raises OSError if nobody says, unless one family is known."""
    found: list[str] = []
    failure: OSError | None = None
    for kind in families:
        try:
            data = look_up(name, kind)
        except OSError as error:
            failure = error
            continue
        family = socket.AF_INET if kind == dns.A else socket.AF_INET6
        found += [socket.inet_ntop(family, packed) for packed in data]
    if failure is not None and not found:
        raise failure
    return found


def qualified(name: str, families: Sequence[int] = (dns.A,)) -> list[str]:
    """The addresses of a name as people write it: from /etc/hosts, else from DNS. Raises OSError if nobody says.

    A name without a dot is tried with each suffix.
    """
    wanted = [4 if kind == dns.A else 6 for kind in families]
    known = [each for each in _in_hosts(name) if ip_address(each).version in wanted]
    if known:
        return sorted(known, key=lambda each: wanted.index(ip_address(each).version))
    names = [f"{name}.{suffix.strip('.')}" for suffix in suffixes()] if "." not in name else [name]
    for each in names or [name]:
        found = addresses_of(os.fsencode(each), families)
        if found:
            return found
    return []


def _in_hosts(name: str) -> list[str]:
    found = []
    try:
        with open(HOSTS, errors="replace") as file:
            for line in file:
                words = line.partition("#")[0].lower().split()
                if name.lower().rstrip(".") in words[1:]:
                    ip_address(words[0])
                    found.append(words[0])
    except (OSError, ValueError):
        return found
    return found
