"""The IP addresses of this host's network interfaces."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from pathlib import Path

_SIOCGIFCONF = 0x8912
_IFCONF = struct.Struct("iP")
_IFREQ = 40 if struct.calcsize("P") == 8 else 32
_ADDRESS = slice(20, 24)
"""Where a ``struct ifreq`` has the octets of its IPv4 address, after a name of 16 octets, family and port."""

_IPV6_INTERFACES = Path("/proc/net/if_inet6")


def own_addresses() -> list[str]:
    """The IPv4 addresses of the interfaces that are up, then the IPv6 ones but the link-local (netdevice(7))."""
    return [socket.inet_ntop(socket.AF_INET, octets) for octets in _ipv4_addresses()] + _ipv6_addresses()


def _ipv4_addresses() -> list[bytes]:
    """Every interface's address, aliases included; OSError if the kernel does not tell."""
    room = 32 * _IFREQ
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        while True:
            requests = array.array("B", bytes(room))
            answer = fcntl.ioctl(any_socket, _SIOCGIFCONF, _IFCONF.pack(room, requests.buffer_info()[0]))
            used = _IFCONF.unpack(answer)[0]
            if used < room:
                break
            # The kernel fills what it is given and does not say how much more there is.
            room *= 2
    return [requests[start : start + _IFREQ].tobytes()[_ADDRESS] for start in range(0, used, _IFREQ)]


def _ipv6_addresses() -> list[str]:
    try:
        lines = _IPV6_INTERFACES.read_text("ascii").splitlines()
    except OSError:
        return []
    addresses = (socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])) for line in lines)
    return [address for address in addresses if not address.startswith("fe80:")]
