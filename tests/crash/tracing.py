"""Work done in a forked child under strace, whole or killed at one of its system calls.

The child is a fork of this warm process, so that a run costs some tens of milliseconds. strace counts each kind of
call for itself and in each process: a point is a call's name and its number.
"""

from __future__ import annotations

import gc
import os
import re
import select
import signal
import subprocess
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,openat,"
    "mkdir,mkdirat,truncate,ftruncate,fallocate,sendmsg,sendto"
)
"""Whatever changes a file or a directory, makes it durable, or tells somebody."""

_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")


@dataclass(frozen=True)
class Call:
    """One system call that has ended: its arguments as strace shows them, strings in hexadecimal."""

    pid: int
    name: str
    arguments: str
    result: int

    def strings(self) -> list[bytes]:
        """Paths of descriptors and strings, in their order."""
        return [
            bytes.fromhex(match[0].replace("\\x", "")) for match in _HEX.finditer(self.arguments.replace('""', ""))
        ]


def traced(work: Callable[[], None], log: Path, *options: str, calls: str = CALLS) -> int:
    """Do the work in a child under strace; its exit code, negative if a signal ended it. Waits for its children."""
    waiting, go = os.pipe()
    pid = os.fork()
    if not pid:
        _child(work, waiting)
    os.close(waiting)
    command = ["strace", "-f", "-y", "-xx", "-s", "4000000", "-o", str(log), "-e", f"trace={calls}", *options]
    with subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        os.write(go, b"x")
        os.close(go)
        status = os.waitpid(pid, 0)[1]
        said += strace.stderr.read()
    assert b"attached" in said, said
    return os.waitstatus_to_exitcode(status)


@contextmanager
def attached(pids: Sequence[int], log: Path, *options: str, calls: str = CALLS) -> Iterator[None]:
    """strace on processes that run, their threads and their later children, while the block runs."""
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={calls}", *options]
    tracer = subprocess.Popen(
        [*command, *(word for pid in pids for word in ("-p", str(pid)))], stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    count = 0
    while count < len(pids) and (line := tracer.stderr.readline()):
        count += "attach" in line
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            # It waits now and then for a thread that was killed while it was being made.
            tracer.kill()
            tracer.communicate()


def _child(work: Callable[[], None], waiting: int) -> None:
    code = 70
    # What the parent left behind is not collected here: its warnings would be calls that the work does not make.
    gc.freeze()
    try:
        # No call that is traced: whether it was begun before strace is there would change the counts.
        select.select([waiting], [], [])
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def read(log: Path) -> Iterator[Call]:
    """The calls of a trace, each where it ended."""
    begun: dict[str, str] = {}
    for line in log.read_text("ascii", "replace").splitlines():
        pid = line.partition(" ")[0]
        if line.endswith(_UNFINISHED):
            begun[pid] = line.removesuffix(_UNFINISHED)
            continue
        if resumed := _RESUMED.match(line):
            line = begun.pop(pid) + resumed[2]
        if match := _LINE.match(line):
            yield Call(int(match[1]), match[2], match[3], int(match[4]))


Point = tuple[str, int]


def points(calls: list[Call], opening: bool = False) -> list[Point]:
    """Every call of the trace as a point; those that open what is there only with ``opening``."""
    counts: Counter[tuple[int, str]] = Counter()
    found: dict[Point, None] = {}
    for call in calls:
        counts[call.pid, call.name] += 1
        if opening or call.name != "openat" or "O_CREAT" in call.arguments:
            found[call.name, counts[call.pid, call.name]] = None
    return list(found)


def killed_at(work: Callable[[], None], point: Point, log: Path) -> bool:
    """Do the work, killed (SIGKILL) instead of making that call; whether that happened."""
    name, number = point
    traced(work, log, "-e", f"inject={name}:signal=KILL:when={number}")
    return "killed by SIGKILL" in log.read_text("ascii", "replace")
