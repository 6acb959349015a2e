"""A private DNS server: dnsmasq with a zone of its own and nothing else.

``example`` is answered from the records given, everything else in it does not exist. dnsmasq cannot be given a record
with an empty answer of every kind, so the odd ones are written as octets (``raw``).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import dns.exception
import dns.message
import dns.query
from tests.peers.processes import end, free_port, program, wait_until

_TYPE_MX = 15


def mx(domain: str, preference: int, host: str) -> str:
    """An MX record as a line of the configuration."""
    return f"mx-host={domain},{host},{preference}"


def host(name: str, *addresses: str) -> str:
    """A host's A and AAAA records."""
    return f"host-record={name},{','.join(addresses)}"


def null_mx(domain: str) -> str:
    """``MX 0 .``: the domain takes no mail (RFC 7505)."""
    return f"dns-rr={domain},{_TYPE_MX},000000"


def alias(name: str, target: str) -> str:
    """A CNAME record; dnsmasq must know the target."""
    return f"cname={name},{target}"


def broken(domain: str) -> str:
    """Names below the domain have a server that does not answer."""
    return f"server=/{domain}/127.0.0.1#9"


class NameServer:
    """dnsmasq on ``address``:``port`` with these records; the port is a free one unless it is given."""

    def __init__(self, directory: Path, records: list[str], address: str = "127.0.0.1", port: int = 0) -> None:
        self.address = address
        self.port = port or free_port(address)
        self._file = directory / "dnsmasq.conf"
        base = [
            f"port={self.port}",
            f"listen-address={address}",
            "bind-interfaces",
            "no-resolv",
            "no-hosts",
            "user=root",
            "local=/example/",
            f"pid-file={directory / 'dnsmasq.pid'}",
        ]
        self._file.write_text("\n".join(base + records) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start; returns once it answers."""
        command = [program("dnsmasq"), "--keep-in-foreground", f"--conf-file={self._file}", "--log-facility=-"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "dnsmasq answers")

    def _answers(self) -> bool:
        query = dns.message.make_query("nothing.example", "A")
        try:
            dns.query.udp(query, self.address, timeout=0.2, port=self.port)
        except (OSError, dns.exception.DNSException):
            return False
        return True

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            end(self._process)
            self._process = None
