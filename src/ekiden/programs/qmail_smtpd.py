"""qmail-smtpd: receive mail by SMTP on descriptors 0 and 1 (qmail-smtpd(8), tcp-environ(5)).

Under tcpserver, or under inetd with tcp-env before it. Exit codes: 0 after QUIT, 1 when the client is silent, gone,
or cannot be served.
"""

from __future__ import annotations

import os

from ekiden.settings.lines import control_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_CONTROLS = b"421 4.3.0 unable to read controls\r\n"
_NO_RESOURCES = b"421 4.3.0 out of memory, try again later\r\n"
_FAILED = 1
_LOADING = 10.0
"""Most seconds of processor time for loading; it takes less than one."""


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    try:
        greeting = _greeting(home)
        # Whatever else is needed is loaded while the client reads this.
        os.write(1, b"220 %b ESMTP\r\n" % greeting if greeting else _NO_CONTROLS)
        return _serve(home) if greeting else _FAILED
    except OSError:
        # The client is gone.
        return _FAILED
    except (MemoryError, SystemError, ImportError, SyntaxError):
        # What there is no memory for cannot be loaded, or parsed. Standard error may be the connection.
        os.write(1, _NO_RESOURCES)
        return _FAILED


def _greeting(home: str) -> bytes:
    """Empty if there is none to be had."""
    try:
        return control_line(home, "smtpgreeting") or control_line(home, "me") or b""
    except OSError:
        return b""


def _serve(home: str) -> int:
    import signal

    # Without memory an interpreter before Python 3.14 may handle an import's exception for ever: SIGPROF ends it.
    signal.setitimer(signal.ITIMER_PROF, _LOADING)
    from pathlib import Path

    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError

    try:
        settings = read(Path(home, "control"))
    except SettingsError:
        os.write(1, _NO_CONTROLS)
        return _FAILED
    from ekiden.runtime.classic.descriptors import Descriptors
    from ekiden.runtime.classic.smtp_waiting import serve
    from ekiden.runtime.classic.tcp_environment import TcpEnvironment

    signal.setitimer(signal.ITIMER_PROF, 0)
    return serve(settings, home, Descriptors(settings.timeoutsmtpd), TcpEnvironment())
