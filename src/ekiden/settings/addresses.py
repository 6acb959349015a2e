"""The IP addresses of this host's network interfaces, asked of the kernel (Linux rtnetlink(7))."""

from __future__ import annotations

import socket
import struct

_RTM_GETADDR = 22
_NLMSG_DONE = 3
_NLMSG_ERROR = 2
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_REQUEST_DUMP = 0x301
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")


def own_addresses() -> frozenset[str]:
    """Every IPv4 and IPv6 address of every interface, as text. OSError if the kernel does not tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(5)
        netlink.send(_HEADER.pack(_HEADER.size + _ADDRESS.size, _RTM_GETADDR, _REQUEST_DUMP, 1, 0) + bytes(8))
        found: set[str] = set()
        while True:
            done = _read_messages(netlink.recv(65536), found)
            if done:
                return frozenset(found)


def _read_messages(data: bytes, found: set[str]) -> bool:
    """Add the addresses in one datagram; True if the dump ends with it."""
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, _flags, _sequence, _pid = _HEADER.unpack_from(data, start)
        if kind == _NLMSG_DONE:
            return True
        if kind == _NLMSG_ERROR or length < _HEADER.size:
            raise OSError("the kernel refuses to list the interfaces")
        address = _read_address(data[start + _HEADER.size : start + length])
        if address is not None:
            found.add(address)
        start += (length + 3) & ~3
    return False


def _read_address(message: bytes) -> str | None:
    """The address in one RTM_NEWADDR: IFA_LOCAL if there (point-to-point links), else IFA_ADDRESS."""
    family = message[0]
    attributes: dict[int, bytes] = {}
    start = _ADDRESS.size
    while start + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, start)
        if length < _ATTRIBUTE.size:
            break
        attributes[kind] = message[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if packed is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return socket.inet_ntop(family, packed)
