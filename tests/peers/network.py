"""Hosts on networks of their own: network namespaces joined by bridges, with a firewall between two of them.

``with network.at("relay"):`` makes what is started or connected there start and connect on that host. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.peers.processes import Unavailable, program

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_numbers = count(1)


class Network:
    """Two Ethernets, ``outside`` and ``inside``: hosts by name with their addresses; the firewall is between them.

    ``passes`` are selectors of ip-rule(8) for what may go through the firewall; all else is prohibited.
    """

    def __init__(self, outside: Mapping[str, str], inside: Mapping[str, str], passes: list[str]) -> None:
        if os.geteuid() != 0:
            raise Unavailable("network namespaces need root")
        self._ip = program("ip")
        self._prefix = f"ek{os.getpid()}x{next(_numbers)}"
        self.firewall = {"outside": "202.241.128.1", "inside": "192.168.1.254"}
        self._made: list[str] = []
        try:
            self._make_firewall(passes)
            for side, hosts in (("outside", outside), ("inside", inside)):
                for name, address in hosts.items():
                    self._make_host(name, address, side)
        except BaseException:
            self.remove()
            raise

    def _make_firewall(self, passes: list[str]) -> None:
        self._make("firewall")
        for side, address in self.firewall.items():
            self._do("firewall", f"link add {side} type bridge")
            self._do("firewall", f"addr add {address}/24 dev {side}")
            self._do("firewall", f"link set {side} up")
        for selector in passes:
            self._do("firewall", f"rule add {selector} lookup main prio 10")
        for side in self.firewall:
            self._do("firewall", f"rule add iif {side} prohibit prio 20")
        with self.at("firewall"):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def _make_host(self, name: str, address: str, side: str) -> None:
        self._make(name)
        link = f"to-{name}"[:15]
        self._do("firewall", f"link add {link} type veth peer name eth0 netns {self._prefix}-{name}")
        self._do("firewall", f"link set {link} master {side} up")
        self._do(name, f"addr add {address}/24 dev eth0")
        self._do(name, "link set eth0 up")
        self._do(name, f"route add default via {self.firewall[side]}")

    def _make(self, name: str) -> None:
        self._run("netns", "add", f"{self._prefix}-{name}")
        self._made.append(name)
        self._do(name, "link set lo up")

    def _do(self, host: str, command: str) -> None:
        self._run("-n", f"{self._prefix}-{host}", *command.split())

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._ip, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    @contextmanager
    def at(self, host: str) -> Iterator[None]:
        """This thread, and what it starts, is on that host."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/run/netns/{self._prefix}-{host}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
            yield
        finally:
            _enter(before)
            os.close(before)
            os.close(there)

    def remove(self) -> None:
        """Take the hosts away; what runs there goes on, alone."""
        while self._made:
            subprocess.run([self._ip, "netns", "del", f"{self._prefix}-{self._made.pop()}"], check=False)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
