"""Single control files, for programs that must start at once; everything else reads ``settings.control``.

The same rules (qmail-control(5)): of a file of one fact the first line counts, of a list its lines without comments;
blanks at the end of a line do not count. What these programs use is checked where it is used.
"""

from __future__ import annotations

import os

_BLANK = b" \t\n"


def control_line(home: str, name: str) -> bytes | None:
    """The fact in ``control/NAME``, None if there is no such file; OSError if it cannot be read."""
    raw = _load(os.path.join(home, "control", name))
    return None if raw is None else raw.partition(b"\n")[0].rstrip(_BLANK)


def control_lines(path: str) -> list[bytes] | None:
    """The lines of the file at ``path``, None if there is no such file; OSError if it cannot be read."""
    raw = _load(path)
    if raw is None:
        return None
    lines = (line.rstrip(_BLANK) for line in raw.split(b"\n"))
    return [line for line in lines if line and not line.startswith(b"#")]


def _load(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
