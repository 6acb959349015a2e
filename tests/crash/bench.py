"""One kind of work, made ready once, and done again and again on copies of that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.crash.desk import Books, Tell
from tests.crash.disk import Tree


class Work(Protocol):
    """What is crashed: the files there were before, what is done to them, and what must be true afterwards."""

    def prepare(self, directory: Path, tell: Tell, /) -> None: ...
    def act(self, directory: Path, tell: Tell, /) -> None: ...
    def finish(self, directory: Path, told: list[str], /) -> Books: ...


class Bench:
    """``place`` is an empty directory; ``run`` below it is where the work is done and crashed."""

    def __init__(self, place: Path, work: Work) -> None:
        self.place, self.work = place, work
        self.ready, self.told, self.log = place / "ready", place / "told", place / "log"
        self.ready.mkdir()
        self.before: list[str] = []
        work.prepare(self.ready, self.before.append)
        for reserve in self.ready.rglob("reserve"):
            reserve.unlink()
        (self.place / "run").mkdir()
        self.run = place / "run" / "queue"

    def renew(self) -> Callable[[], None]:
        """The files as they are before the work, and the work on them."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.ready, self.run)
        self.told.write_bytes(b"")
        return lambda: self.work.act(self.run, teller(self.told))

    def tree(self) -> Tree:
        """All files of ``ready``."""
        paths = [path for path in self.ready.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.ready)): path.read_bytes() for path in paths}

    def lay_out(self, tree: Tree) -> None:
        """Make ``run`` hold just these files."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.ready, self.run)
        for path in self.tree():
            (self.run / path).unlink()
        for path, content in tree.items():
            (self.run / path).parent.mkdir(exist_ok=True)
            (self.run / path).write_bytes(content)

    def books(self, told: list[str] | None = None) -> Books:
        """What comes of the files as they are, when this had been told; None: what the work told."""
        told = self.told.read_text().splitlines() if told is None else told
        return self.work.finish(self.run, [*self.before, *told])


def teller(path: Path) -> Tell:
    """Tells by one system call, that cannot be half done, and that nothing else here makes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    return lambda line: os.writev(descriptor, [f"{line}\n".encode()]) and None
