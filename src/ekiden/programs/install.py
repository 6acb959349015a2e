"""HOME/bin: every classic program under its own name, each a short script that knows its home."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path

from ekiden import programs
from ekiden.runtime.ucspi.scripts import scripts

_NOT_PROGRAMS = frozenset({"install"})

_SCRIPT = """#!{python}
import sys
from ekiden.cli import run_classic
sys.exit(run_classic({name!r}, sys.argv[1:], {home!r}))
"""


def names() -> list[str]:
    """The classic programs there are, by their original names."""
    modules = (module.name for module in pkgutil.iter_modules(programs.__path__))
    return sorted(name.replace("_", "-") for name in modules if name not in _NOT_PROGRAMS)


def write_bin(home: Path) -> None:
    """Write HOME/bin/NAME for each program, mode 755; OSError if that fails."""
    for name in names():
        path = home / "bin" / name
        path.write_text(_SCRIPT.format(python=sys.executable, name=name, home=str(home)))
        path.chmod(0o755)
    for name, text in scripts(str(home / "bin")).items():
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)
