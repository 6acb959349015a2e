"""qsmhook [-DFlMmnPs] [-x PREFIX] COMMAND [ARG ...]: run a mailer written for sendmail, from a .qmail file.

The old form of preline. In arguments, ``%g`` is the sender, ``%h`` the recipient's host, ``%u`` its local part
without PREFIX, ``%%`` a percent sign. A From_ line goes in front unless ``-n``, Return-Path with ``-P``, Delivered-To
with ``-l``; the other letters are sendmail's mailer flags, which make no difference. The exit code is the command's;
100 for wrong use or a command that does not exist, 111 for everything else.
"""

from __future__ import annotations

import os
import re
import sys

from ekiden.delivery.report import is_temporary
from ekiden.runtime.classic.child import Crashed, feed
from ekiden.runtime.classic.options import BadOption, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDED = ("DTLINE", "RPLINE", "UFLINE", "LOCAL", "HOST", "SENDER")


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options and the command."""
    try:
        found, command = options(argv, "DFlMmnPsx:")
    except BadOption as error:
        print(f"qsmhook: {error}", file=sys.stderr)
        return 100
    if not command or any(name not in os.environ for name in _NEEDED):
        return _fail(100, "incorrect usage")
    user = os.environ["LOCAL"]
    for letter, value in found:
        if letter == "x" and user.lower().startswith(value.lower()):
            user = user[len(value) :]
    given = {letter for letter, _value in found}
    lines = (("UFLINE", "n" not in given), ("RPLINE", "P" in given), ("DTLINE", "l" in given))
    first = b"".join(os.environb[os.fsencode(name)] for name, wanted in lines if wanted)
    try:
        return feed([_filled(argument, user) for argument in command], first)
    except Crashed:
        return _fail(111, "temporary problem")
    except OSError as error:
        return _fail(111, "temporary problem") if is_temporary(error) else _fail(100, "command not found")


def _filled(argument: str, user: str) -> str:
    values = {"%": "%", "g": os.environ["SENDER"], "h": os.environ["HOST"], "u": user}
    return re.sub(r"%(.?)", lambda found: values.get(found[1], ""), argument, flags=re.DOTALL)


def _fail(code: int, text: str) -> int:
    print(f"qsmhook: fatal: {text}", file=sys.stderr)
    return code
