"""Becoming another program, as the ucspi-tcp programs do it."""

from __future__ import annotations

import errno
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IGNORED_BY_PYTHON = [signal.SIGPIPE, signal.SIGXFSZ]
"""Signals that the interpreter ignores; every program that is started gets their default back."""

_SKIPPED = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR}
_PATH = "/bin:/usr/bin"


def execute(
    argv: Sequence[str], environment: Mapping[bytes, bytes] | None = None, file: str | None = None
) -> OSError:
    """Become ``file`` (``argv[0]`` if None), looked for on our own PATH unless there is a slash in it.

    Comes back only if that fails, with the reason: the last that is more than a missing file. ``environment`` is ours
    unless given.
    """
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    file = argv[0] if file is None else file
    variables = os.environb if environment is None else environment
    if "/" in file:
        places = [file]
    else:
        places = [f"{directory or '.'}/{file}" for directory in os.environ.get("PATH", _PATH).split(":")]
    reason = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for place in places:
        try:
            os.execve(place, list(argv), variables)
        except ValueError:
            return OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        except OSError as error:
            if error.errno != errno.ENOENT:
                reason = error
            if error.errno not in _SKIPPED:
                break
    return reason
