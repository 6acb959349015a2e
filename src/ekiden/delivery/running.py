"""A program that runs while other deliveries go on: its output is collected, its end awaited, its time limited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

from ekiden.delivery import program
from ekiden.delivery.letter import Letter
from ekiden.delivery.report import REPORT_OCTETS, Trouble, deferred

_READ = 65536


def run(
    loop: asyncio.AbstractEventLoop,
    command: bytes,
    letter: Letter,
    environment: Mapping[bytes, bytes],
    done: Callable[[int | Trouble], None],
    seconds: float = 0,
) -> Callable[[], None]:
    """Start a program; ``done`` gets its answer (see delivery.local.Run). Its output goes to ``letter.output``.

    After ``seconds``, 0 being never, or when what is returned is called while it runs, it is ended with its process
    group, and the delivery deferred.

    Raises Trouble or OSError if it cannot be started.
    """
    message = letter.content.descriptor()
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # Programs expect a pipe that waits for its reader.
        os.set_blocking(writing, True)
        process = program.start(command, letter.home, environment, message, writing)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return _Running(loop, process, reading, letter, done, seconds).end


class _Running:
    """Waits for the process, not for the end of its output: a program may leave a daemon that keeps the pipe."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: int,
        output: int,
        letter: Letter,
        done: Callable[[int | Trouble], None],
        seconds: float,
    ) -> None:
        self._loop = loop
        self._process = process
        self._output = output
        self._letter = letter
        self._done = done
        self._printed = False
        self._late = False
        self._exit = os.pidfd_open(process)
        self._timer = loop.call_later(seconds, self.end) if seconds else None
        loop.add_reader(self._exit, self._exited)
        loop.add_reader(output, self._read)

    def _read(self) -> bool:
        """Take what the program printed; whether there may be more."""
        try:
            piece = os.read(self._output, _READ)
        except OSError:
            return False
        if not piece:
            self._loop.remove_reader(self._output)
            return False
        self._printed = True
        if len(self._letter.output) <= REPORT_OCTETS:
            self._letter.output += piece[: REPORT_OCTETS + 1]
        return True

    def end(self) -> None:
        """Kill it; ``done`` is called when it is gone."""
        self._late = True
        program.end(self._process)

    def _exited(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._exit)
        os.close(self._exit)
        _process, status = os.waitpid(self._process, 0)
        # What is in the pipe now is all that counts; at most the pipe's size, since the writer may still be there.
        for _ in range(16):
            if not self._read():
                break
        self._loop.remove_reader(self._output)
        os.close(self._output)
        self._done(self._answer(status))

    def _answer(self, status: int) -> int | Trouble:
        if self._late:
            return deferred(program.TOO_LONG)
        try:
            return program.judge(status, silent=not self._printed)
        except Trouble as trouble:
            return trouble
