"""HOME/bin: every classic program under its own name, each a short script that knows its home."""

from __future__ import annotations

import os
import pkgutil
import sys
from pathlib import Path

from ekiden import programs
from ekiden.runtime.ucspi.scripts import scripts

_SCRIPT = """#!{python}
import sys
try:
    from ekiden.cli import run_classic
except (ImportError, MemoryError, OSError) as error:
    print({name!r} + ": fatal:", str(error) or "out of memory", file=sys.stderr)
    sys.exit(111)
sys.exit(run_classic({name!r}, sys.argv[1:], {home!r}))
"""


def names() -> list[str]:
    """The classic programs there are, by their original names."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(programs.__path__))


def texts(home: Path) -> dict[str, str]:
    """What HOME/bin holds: each program's script by its name."""
    ours = {name: _SCRIPT.format(python=sys.executable, name=name, home=str(home)) for name in names()}
    return ours | scripts(str(home / "bin"))


def write_bin(home: Path) -> None:
    """Write HOME/bin/NAME, mode 755, for each program that is not there as it should be; OSError if that fails.

    Links are left alone: they lead where the administrator wants the program to be.
    """
    for name, text in texts(home).items():
        path = home / "bin" / name
        if path.exists() and (path.is_symlink() or path.read_bytes() == text.encode()):
            continue
        # Beside it, because the program may be starting just now.
        new = path.with_name(f".{name}.{os.getpid()}")
        new.write_text(text)
        new.chmod(0o755)
        new.rename(path)
