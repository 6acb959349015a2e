"""Single-letter options of the classic programs (sgetopt(3)): ``-n``, ``-fvalue``, ``-f value``, ``-nfvalue``.

Options end before the first argument that is none, before ``-`` alone, and after ``--``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class BadOption(ValueError):
    """An option that does not exist or lacks its argument; the text says which."""


def _refuse(problem: str) -> None:
    raise BadOption(problem)


def options(
    argv: Sequence[str], known: str, complain: Callable[[str], None] = _refuse
) -> tuple[list[tuple[str, str]], list[str]]:
    """The options with their arguments (empty for those without) in order, and what follows them.

    ``known`` holds the letters, ``:`` after one with an argument, ``;`` after one whose argument may only be joined
    to it and may be missing. A wrong option raises ``BadOption``, or is told to ``complain`` and passed over.
    """
    found: list[tuple[str, str]] = []
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        argument = rest.pop(0)
        if argument.startswith("--"):
            break
        _letters(argument[1:], rest, known, found, complain)
    return found, rest


def _letters(
    letters: str, rest: list[str], known: str, found: list[tuple[str, str]], complain: Callable[[str], None]
) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        place = known.find(letter) if letter not in ":;" else -1
        if place < 0:
            complain(f"illegal option -- {letter}")
            continue
        form = known[place + 1 : place + 2]
        if form == ";" or (form == ":" and letters):
            found.append((letter, letters))
            return
        if form == ":":
            if rest:
                found.append((letter, rest.pop(0)))
            else:
                complain(f"option requires an argument -- {letter}")
            return
        found.append((letter, ""))
