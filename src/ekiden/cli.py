"""The ``ekiden`` command: the classic programs by name, everything else through ``ekiden.commands``.

Classic programs must start in little more than the interpreter's own time, so that nothing is imported here before
it is known what is wanted.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_HOME = "/var/qmail"
TRY_AGAIN = 75
"""What ekiden's own commands exit with where classic programs exit with 111."""


def main() -> None:
    """Entry point; exits with the codes that docs/ekiden.md lists."""
    sys.exit(quietly(lambda: run(sys.argv[1:])))


def quietly(command: Callable[[], int], name: str = "ekiden", trouble: int = 111) -> int:
    """Run a command, called so in errors; a reader of its output that goes away early, such as ``head``, is no fault.

    Output that cannot be written is one: ``trouble``, the exit code for all that may pass. An interrupt ends the
    process by its signal, as everybody expects.
    """
    hold_closed_descriptors()
    try:
        status = command()
        sys.stdout.flush()
    except OSError as error:
        nobody_reads = isinstance(error, BrokenPipeError) and _nobody_reads_output()
        _drop_output()
        if nobody_reads:
            return 0
        print(f"{name}: fatal: {error.strerror or error}", file=sys.stderr)
        return trouble
    except (MemoryError, SystemError):
        # The interpreter itself forgets now and then to say what it lacks.
        try:  # noqa: SIM105 (there is no memory to load contextlib)
            print(f"{name}: fatal: out of memory", file=sys.stderr)
        except MemoryError:
            pass
        return trouble
    except (ImportError, SyntaxError) as error:
        # Whatever of ours can be missing on a whole machine is asked for by name before. And where nothing is
        # compiled yet, a parser without memory finds errors in what has none.
        print(f"{name}: fatal: {error}", file=sys.stderr)
        return trouble
    except KeyboardInterrupt:
        return _interrupted()
    return status


def _drop_output() -> None:
    """Have what was not written by now go nowhere when the interpreter ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        # No descriptor is left even for that.
        sys.stdout = None


def _nobody_reads_output() -> bool:
    """Whether standard output is a pipe without a reader; another broken pipe may be a message that was not taken."""
    import select

    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _descriptor, events in poll.poll(0))


def _interrupted() -> int:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    return 111


def hold_closed_descriptors() -> None:
    """Fill descriptors 0 to 2 where the caller closed them, so that no file opened later takes their place.

    Reading descriptor 0 and writing descriptor 1 still fail; what is said on descriptor 2 is lost.
    """
    if sys.stdin is None:
        sys.stdin = _stand_in(os.O_WRONLY, "r")
    if sys.stdout is None:
        sys.stdout = _stand_in(os.O_RDONLY, "w")
    if sys.stderr is None:
        sys.stderr = _stand_in(os.O_WRONLY, "w")


def _stand_in(flags: int, mode: str) -> io.TextIOWrapper:
    # The lowest free descriptor, which is the closed one.
    file = io.FileIO(os.open(os.devnull, flags), mode, closefd=False)
    return io.TextIOWrapper(io.BufferedReader(file) if mode == "r" else io.BufferedWriter(file))


def run(arguments: Sequence[str]) -> int:
    """Run a command line without the program's name; the exit code."""
    home, rest = split_home(arguments)
    if rest:
        from ekiden.programs import find

        program = find(rest[0])
        if program is not None:
            return program(rest[1:], home)
        _become_script(rest, home)
    return quietly(lambda: _own(list(arguments), home), trouble=TRY_AGAIN)


def _become_script(words: list[str], home: str) -> None:
    """Run HOME/bin/NAME in this process's place if it is one of the classic programs that are shell scripts."""
    from ekiden.runtime.ucspi.scripts import NAMES

    path = os.path.join(home, "bin", words[0])
    if words[0] in NAMES and os.access(path, os.X_OK):
        os.execv(path, [path, *words[1:]])


def _own(arguments: list[str], home: str) -> int:
    from pathlib import Path

    from ekiden.commands import run_command

    return run_command(arguments, Path(home))


def run_classic(name: str, arguments: Sequence[str], home: str) -> int:
    """What HOME/bin/NAME runs: the classic program of that name, also where ekiden has a command of that name."""
    return quietly(lambda: _classic(name, arguments, os.environ.get("EKIDEN_HOME") or home), name)


def _classic(name: str, arguments: Sequence[str], home: str) -> int:
    from ekiden.programs import find

    program = find(name, classic=True)
    if program is None:
        print(f"ekiden: no such program: {name}", file=sys.stderr)
        return 111
    return program(arguments, home)


def split_home(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """``--home DIR`` in front of the command, else EKIDEN_HOME, else /var/qmail; and what follows."""
    rest = list(arguments)
    home = os.environ.get("EKIDEN_HOME") or DEFAULT_HOME
    if rest[:1] == ["--home"] and len(rest) > 1:
        home, rest = rest[1], rest[2:]
    elif rest and rest[0].startswith("--home="):
        home, rest = rest[0].partition("=")[2], rest[1:]
    return os.path.abspath(home), rest


if __name__ == "__main__":
    main()
