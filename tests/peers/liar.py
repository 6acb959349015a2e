"""A DNS server that lies: how it answers a question is what the first label of the asked name says.

It speaks UDP and TCP on one port of 127.0.0.1. Messages are built as octets where dnspython would refuse to build
them. ``asked`` counts questions, so that a test sees what a lie cost.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.peers.processes import free_port

A, MX, CNAME = 1, 15, 5
_TRUNCATED = 0x0200
_OK, _SERVFAIL, _REFUSED, _FORMERR = 0, 2, 5, 1
_ANSWER = 0x8180
POINTER = b"\xc0\x0c"
"""The question's name, compressed."""


class Asked:
    """A question as it came: ``labels`` are the name's, ``question`` all octets of the question section."""

    def __init__(self, packet: bytes) -> None:
        self.id = packet[:2]
        self.labels: list[bytes] = []
        at = 12
        while length := packet[at]:
            self.labels.append(packet[at + 1 : at + 1 + length])
            at += 1 + length
        self.question = packet[12 : at + 5]
        (self.kind,) = struct.unpack(">H", packet[at + 1 : at + 3])

    def reply(self, *records: bytes, flags: int = _ANSWER, question: bytes | None = None, claimed: int = -1) -> bytes:
        count = len(records) if claimed < 0 else claimed
        header = struct.pack(">HHHHH", flags, 1, count & 0xFFFF, 0, 0)
        return self.id + header + (self.question if question is None else question) + b"".join(records)


def name(*labels: bytes) -> bytes:
    """A name in wire form."""
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def record(kind: int, data: bytes, owner: bytes = POINTER, ttl: int = 300, length: int = -1) -> bytes:
    """A resource record; ``length`` is what it claims, if that is to be wrong."""
    return owner + struct.pack(">HHIH", kind, 1, ttl, len(data) if length < 0 else length) + data


def _step(asked: Asked) -> bytes:
    """A CNAME to the next of names without end: chain-1, chain-2 ..."""
    number = int(asked.labels[0].partition(b"-")[2] or 0)
    return asked.reply(record(CNAME, name(b"chain-%d" % (number + 1), *asked.labels[1:])))


def _spiral(asked: Asked) -> bytes:
    """A name that is a pointer to itself."""
    here = 12 + len(asked.question) + len(POINTER) + 10 + 2
    return asked.reply(record(MX, b"\0\1" + struct.pack(">H", 0xC000 + here)))


def _swing(asked: Asked) -> bytes:
    """a is b and b is a, one at a time."""
    other = b"swing-b" if asked.labels[0] != b"swing-b" else b"swing-a"
    return asked.reply(record(CNAME, name(other, *asked.labels[1:])))


def _loop(asked: Asked) -> bytes:
    """a is b and b is a, both at once."""
    there = name(b"loop-b", *asked.labels[1:])
    return asked.reply(record(CNAME, there), record(CNAME, POINTER, there))


def _no_name(asked: Asked) -> bytes:
    return asked.reply(flags=_ANSWER | 3)


def _many(asked: Asked) -> bytes:
    """As many exchangers as fit into a message."""
    if asked.kind != MX:
        return _no_name(asked)
    return asked.reply(*(record(MX, struct.pack(">H", n) + bytes([3]) + b"%03x" % n + POINTER) for n in range(3000)))


def _crowd(asked: Asked) -> bytes:
    """As many addresses as fit, none of which answers."""
    if asked.kind != A:
        return asked.reply()
    return asked.reply(*(record(A, bytes([198, 18, n >> 8, n & 255])) for n in range(4000)))


LIES: dict[bytes, Callable[[Asked], bytes]] = {
    b"silent": lambda asked: b"",
    b"garbage": lambda asked: os.urandom(100),
    b"short": lambda asked: asked.id,
    b"wrongid": lambda asked: bytes(2) + asked.reply(record(MX, b"\0\1" + POINTER))[2:],
    b"other": lambda asked: asked.reply(question=name(b"another", b"example") + asked.question[-4:]),
    b"noquestion": lambda asked: asked.id + struct.pack(">HHHHH", _ANSWER, 0, 0, 0, 0),
    b"echo": lambda asked: asked.reply(flags=0x0100),
    b"servfail": lambda asked: asked.reply(flags=_ANSWER | _SERVFAIL),
    b"refused": lambda asked: asked.reply(flags=_ANSWER | _REFUSED),
    b"formerr": lambda asked: asked.reply(flags=_ANSWER | _FORMERR),
    b"claims": lambda asked: asked.reply(claimed=65535),
    b"overrun": lambda asked: asked.reply(record(MX, b"\0\1\4away", length=60_000)),
    b"pointer": lambda asked: asked.reply(record(MX, b"\0\1" + b"\xc0\xff")),
    b"spiral": _spiral,
    b"emptymx": lambda asked: asked.reply(record(MX, b"")),
    b"shorta": lambda asked: asked.reply(record(A, b"\x7f")) if asked.kind == A else asked.reply(),
    b"self": lambda asked: asked.reply(record(CNAME, POINTER)),
    b"loop": _loop,
    b"swing": _swing,
    b"chain": _step,
    b"many": _many,
    b"crowd": _crowd,
    b"refers": lambda asked: asked.reply(record(MX, b"\0\1" + POINTER)) if asked.kind == MX else asked.reply(),
    b"good": lambda asked: asked.reply(record(A, b"\xc6\x12\0\1")) if asked.kind == A else asked.reply(),
}
"""By first label, or its beginning before a dash. What begins with ``tcp`` is truncated by UDP, and lies by TCP."""


class Liar:
    """The server; its threads end with the process, its sockets with ``stop``."""

    def __init__(self) -> None:
        self.asked: Counter[bytes] = Counter()
        self.port = free_port()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._tcp = socket.create_server(("127.0.0.1", self.port), backlog=100)
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def stop(self) -> None:
        """No more answers."""
        for listening in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                packet, client = self._udp.recvfrom(4096)
                if not packet:
                    return
                asked = Asked(packet)
                lie = asked.labels[0].partition(b"-")[0]
                self.asked[lie] += 1
                answer = b"" if lie.startswith(b"tcp") else LIES.get(lie, _no_name)(asked)
                if len(answer) > 1200 or lie.startswith(b"tcp"):
                    answer = asked.reply(flags=_ANSWER | _TRUNCATED)
                if answer:
                    self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _client = self._tcp.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            packet = connection.recv(4096)
            asked = Asked(packet[2:])
            lie = asked.labels[0].partition(b"-")[0]
            self.asked[b"tcp:" + lie] += 1
            match lie:
                case b"tcpsilent":
                    connection.recv(1)
                case b"tcpreset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                case b"tcpgarbage":
                    connection.sendall(os.urandom(100_000))
                case b"tcpdrip":
                    connection.sendall(b"\xff\xff")
                    while True:
                        connection.sendall(b"x")
                        time.sleep(0.05)
                case b"tcpendless":
                    while True:
                        connection.sendall(b"\xff\xff" + bytes(65535))
                case b"tcpagain":
                    answer = asked.reply(flags=_ANSWER | _TRUNCATED)
                    connection.sendall(struct.pack(">H", len(answer)) + answer)
                case _:
                    answer = LIES[lie](asked)
                    connection.sendall(struct.pack(">H", len(answer)) + answer)
