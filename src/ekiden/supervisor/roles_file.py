"""``run/roles``: who runs, for ``ekiden status``."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path

from ekiden.runtime.log import Log
from ekiden.supervisor.children import Child

_SHOWN = ("role", "index", "pid", "since", "draining", "generation")


class RolesFile:
    """The file; ``stale`` while it tells what was before, because it could not be written."""

    def __init__(self, home: Path) -> None:
        self._path = home / "run" / "roles"
        self.stale = False

    def write(self, children: Iterable[Child], state: dict[str, object], log: Log, *, starting: bool = False) -> None:
        """Write it anew; what cannot be written is logged, and when ``starting`` it may raise OSError."""
        rows = [{name: getattr(child, name) for name in _SHOWN} for child in children]
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps({"supervisor": os.getpid(), **state, "roles": rows}) + "\n")
            temporary.rename(self._path)
        except OSError as error:
            # A full device must not end us: the file is for people alone, and is written when there is room. A
            # name that is not ours to write is told whoever starts us.
            if starting and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not self.stale:
                log.alert(f"run/roles: {error.strerror}; `ekiden status` tells what was before")
            self.stale = True
        else:
            self.stale = False
