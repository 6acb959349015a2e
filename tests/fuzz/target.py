"""What a parser is to its tests: what is called, and what it may raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """``call`` gives octets to a parser and asserts what must be true of what comes out.

    ``documented``: the exceptions that the parser's documentation names. ``pieces``: what its inputs are made of, for
    hypothesis and as atheris' dictionary. ``begins``: what a nasty shape must stand behind to reach the parser.
    ``alone``: gives the octets to the parser once, where ``call`` does so many times or keeps books that grow.
    """

    name: str
    call: Callable[[bytes], None]
    documented: tuple[type[Exception], ...] = ()
    pieces: tuple[bytes, ...] = ()
    begins: tuple[bytes, ...] = (b"",)
    alone: Callable[[bytes], object] | None = None

    def run(self, data: bytes) -> None:
        """Give ``data`` to the parser; whatever it does not document is raised."""
        self._run(self.call, data)

    def run_alone(self, data: bytes) -> None:
        """The same with as little as possible but the parser's own work."""
        self._run(self.alone or self.call, data)

    def _run(self, call: Callable[[bytes], object], data: bytes) -> None:
        try:
            call(data)
        except self.documented:
            return
