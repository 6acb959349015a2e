"""The limits of local deliveries, for the classic programs, which read no other setting than they need."""

from __future__ import annotations

from ekiden.delivery.local_limits import PROGRAM_SECONDS, LocalLimits
from ekiden.delivery.quota import define
from ekiden.delivery.report import deferred
from ekiden.settings.lines import control_line


def read_limits(home: str) -> LocalLimits:
    """From control/programseconds, quotabytes, quotamessages and quotaover; Trouble if one cannot be used."""
    try:
        over = control_line(home, "quotaover") or b"fail"
        if over not in (b"fail", b"defer"):
            raise deferred("Unable to use control/quotaover: neither fail nor defer. (#4.3.5)")
        octets, messages = _number(home, "quotabytes", 0), _number(home, "quotamessages", 0)
        seconds = _number(home, "programseconds", PROGRAM_SECONDS)
        return LocalLimits(seconds, define(octets, messages), over == b"fail")
    except OSError as error:
        raise deferred(f"Unable to read {error.filename}: {error.strerror}. (#4.3.5)") from None


def _number(home: str, name: str, default: int) -> int:
    text = control_line(home, name)
    if not text:
        return default
    if not text.isdigit() or len(text) > 18:
        raise deferred(f"Unable to use control/{name}: not a number. (#4.3.5)")
    return int(text)
