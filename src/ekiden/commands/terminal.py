"""Lines for people that quote strangers: they need not be UTF-8, and may try to speak to the terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def plain(text: str) -> bytes:
    """One line without its end, to be printed: control characters are escaped as in ``\\x1b``."""
    shown = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return shown.encode("utf-8", "backslashreplace")
