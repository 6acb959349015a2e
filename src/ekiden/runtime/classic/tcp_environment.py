"""What tcpserver or tcp-env says of a connection in environment variables (tcp-environ(5)), and what a rule set.

For receiving programs: whoever starts them is trusted with these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ekiden.runtime.trace import sanitised


class TcpEnvironment:
    """``address``: TCPREMOTEIP. ``name`` and ``info``: TCPREMOTEHOST and TCPREMOTEINFO, empty if unknown. ``local``:
    TCPLOCALHOST or TCPLOCALIP, fit for a trace field, empty if unknown. ``rule``: RELAYCLIENT and DATABYTES."""

    def __init__(self, environment: Mapping[bytes, bytes] = os.environb) -> None:
        self.address = environment.get(b"TCPREMOTEIP", b"unknown").decode("ascii", "replace")
        self.name = environment.get(b"TCPREMOTEHOST", b"")
        self.info = environment.get(b"TCPREMOTEINFO", b"")
        self.local = sanitised(environment.get(b"TCPLOCALHOST") or environment.get(b"TCPLOCALIP", b""))
        self.rule = {name: environment[name] for name in (b"RELAYCLIENT", b"DATABYTES") if name in environment}
