"""What is imported before a role is shut in."""

from __future__ import annotations

import importlib

_LATE = (
    "dns._asyncio_backend",
    "dns.rdtypes.ANY.CNAME",
    "dns.rdtypes.ANY.DNAME",
    "dns.rdtypes.ANY.MX",
    "dns.rdtypes.ANY.NS",
    "dns.rdtypes.ANY.OPT",
    "dns.rdtypes.ANY.PTR",
    "dns.rdtypes.ANY.SOA",
    "dns.rdtypes.ANY.TXT",
    "dns.rdtypes.IN.A",
    "dns.rdtypes.IN.AAAA",
    "ekiden.delivery.remote_convert",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.punycode",
    "ipaddress",
    "traceback",
)
"""What libraries import when they first need it. A role may not be able to read the interpreter's files by then."""


def preload() -> None:
    """Import it all: once is enough, and whoever would import it later may not be able to read it."""
    for module in _LATE:
        importlib.import_module(module)
