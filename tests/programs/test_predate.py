import email.utils
import os
import subprocess
import sys
import time

import pytest

RUN = """
import sys
from pathlib import Path
from ekiden.programs.predate import main
sys.exit(main(sys.argv[1:], "/"))
"""


def predate(*argv, data=b"", **environment):
    command = [sys.executable, "-c", RUN, *argv]
    return subprocess.run(command, input=data, capture_output=True, env={**os.environ, **environment}, timeout=60)


def test_date_goes_in_front_in_the_local_zone():
    done = predate("cat", data=b"Subject: hi\n\n\xff\x00", TZ="JST-9")
    line, rest = done.stdout.split(b"\n", 1)
    assert rest == b"Subject: hi\n\n\xff\x00"
    assert line.startswith(b"Date: ") and line.endswith(b" +0900")
    assert abs(email.utils.mktime_tz(email.utils.parsedate_tz(line[6:].decode())) - time.time()) < 30
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([], 100, b"usage"),
        (["sh", "-c", "exit 7"], 7, b""),
        (["sh", "-c", "kill -9 $$"], 111, b"crashed"),
        (["/nonexistent/program"], 111, b"unable to run"),
    ],
)
def test_exit_codes(argv, code, said):
    done = predate(*argv, data=b"x" * 200_000)
    assert done.returncode == code
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
