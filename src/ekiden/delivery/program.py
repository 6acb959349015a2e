"""Programs that take a message on descriptor 0: started, and their exit judged (qmail-command(8)).

The program runs as the user this process already is, in the user's home, in a session of its own so that it can be
ended with everything it started.
"""

from __future__ import annotations

import os

from ekiden.delivery.report import DEFERRED, FAILED, Trouble, deferred, unable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HARD = frozenset({100, 64, 65, 70, 76, 77, 78, 112})
"""Exit codes that mean permanent failure; 0 and 99 are success, everything else may be tried again."""

STOP = 99
"""Exit code of a program that delivered and wants the rest of the .qmail file ignored."""

TOO_LONG = "A program took too long and was ended. (#4.3.0)"

_PASSED_ON = ("PATH", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "QMAILQUEUE")


def surroundings(environment: Mapping[str, str], home: str) -> dict[bytes, bytes]:
    """The part of a daemon's environment that programs get; HOME/bin comes first in PATH, as in qmail's rc."""
    kept = {name: environment[name] for name in _PASSED_ON if name in environment}
    kept["PATH"] = f"{home}/bin:" + kept.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    kept["EKIDEN_HOME"] = home
    return {os.fsencode(name): os.fsencode(value) for name, value in kept.items()}


def start(
    command: bytes,
    directory: bytes,
    environment: Mapping[bytes, bytes],
    message: int,
    output: int | None = None,
) -> int:
    """Run ``sh -c command`` and give its process id.

    ``message`` becomes descriptor 0; ``output`` becomes descriptors 1 and 2, which are inherited if it is None.
    Changes this process's working directory. Raises Trouble if the program cannot be started.
    """
    import signal  # Costs a classic program that runs none several milliseconds.

    actions: list[tuple[int, int, int]] = [(os.POSIX_SPAWN_DUP2, message, 0)]
    if output is not None:
        actions += [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    try:
        os.chdir(directory)
        return os.posix_spawn(
            "/bin/sh",
            [b"/bin/sh", b"-c", command],
            environment,
            file_actions=actions,
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD],
            setsigmask=[],
        )
    except OSError as error:
        raise unable("run a program", error) from None


def judge(wait_status: int, silent: bool) -> bool:
    """Whether the rest of the .qmail file is to be ignored; Trouble if the program did not deliver.

    ``wait_status`` is as waitpid(2) gives it. ``silent``: the program printed nothing, so that the report must say
    what happened.
    """
    code = os.waitstatus_to_exitcode(wait_status)
    if code < 0:
        raise deferred(f"A program was ended by signal {-code}. (#4.3.0)")
    if code in (0, STOP):
        return code == STOP
    verdict = FAILED if code in HARD else DEFERRED
    status = "5.3.0" if verdict == FAILED else "4.3.0"
    raise Trouble(verdict, f"A program gave exit code {code} and said nothing. (#{status})" if silent else "")


def end(process: int) -> None:
    """End a program that took too long, and what it started."""
    import signal

    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait(process: int, seconds: float) -> int:
    """The wait status of a program that may run for so long, 0 being for ever; raises Trouble if it was ended."""
    if seconds:
        import select

        exited = os.pidfd_open(process)
        try:
            poll = select.poll()
            poll.register(exited, select.POLLIN)
            late = not poll.poll(seconds * 1000)
        finally:
            os.close(exited)
        if late:
            end(process)
            os.waitpid(process, 0)
            raise deferred(TOO_LONG)
    return os.waitpid(process, 0)[1]
