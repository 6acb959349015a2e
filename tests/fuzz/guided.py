"""One target under atheris: ``python -m tests.fuzz.guided TARGET [libFuzzer's options and directories]``.

Coverage is taken of ekiden and of the standard library's reading of headers, which meets strangers through us.
"""

from __future__ import annotations

import shlex
import sys

import atheris

with atheris.instrument_imports(include=["ekiden", "email"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    # libFuzzer gives the first word to a shell where it starts itself anew, to merge inputs.
    again = shlex.join([sys.executable, "-m", "tests.fuzz.guided", sys.argv[1]])
    atheris.Setup([again, *sys.argv[2:]], TARGETS[sys.argv[1]].run)
    atheris.Fuzz()
