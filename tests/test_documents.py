"""Every command that README and docs/ show in ``sh`` blocks is run.

The blocks of one file run in order, in one shell that stops at the first failure, in an empty directory, with
``ekiden`` on the path and EKIDEN_HOME naming a home that does not exist yet; for a page that does not say
``ekiden config`` it is configured and runs. Ports of 127.0.0.1 that a page names are
replaced by free ones, and ``make`` only says what it would do. What a reader sees but nobody should type is a
``console`` block. Some blocks cannot run here; they say so behind ``sh``:

``sh bench``  run by the benchmark, minutes long
``sh root``   changes the real system: users, packages, ports below 1024

Blocks behind ``sh machine`` are a script of their own, which root runs on a machine with its own /etc, /var and
network. That has the guide's addresses: the relay's, and the mail store's with a server that takes all mail.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.peers import sink
from tests.peers.ekiden import COMMAND, Ekiden
from tests.peers.fresh import Fresh
from tests.peers.processes import Unavailable, free_port, run

ROOT = Path(__file__).resolve().parent.parent
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]
NOT_RUN = {"bench", "root"}
ON_A_MACHINE = "machine"
SITE = """\
for address in 202.241.128.3 192.168.1.1; do ip address add $address/24 dev lo; done
{python} {sink} --host 192.168.1.1 --port 25 --record sink &
export PATH={programs}:$PATH
unset EKIDEN_HOME
"""
_FENCE = re.compile(r"^```(\S+)(?: +([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"127\.0\.0\.1[: ](\d{4,5})\b")


@dataclass(frozen=True)
class Block:
    """A fenced block: the line that it begins at, the words behind ``sh``, the text."""

    line: int
    marker: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The page's ``sh`` blocks."""
    for match in _FENCE.finditer(page):
        if match[1] == "sh":
            yield Block(page.count("\n", 0, match.start()) + 1, match[2] or "", match[3])


def script(page: str, marker: str = "") -> str:
    """One shell script of all blocks so marked, each announced; with ports that are free now."""
    chosen = (block for block in blocks(page) if block.marker == marker)
    text = "".join(f"echo {shlex.quote(f'--- line {block.line}')}\n{block.text}" for block in chosen)
    for port in sorted(set(_PORT.findall(page))):
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    return text


def test_script_takes_unmarked_blocks_in_order_with_free_ports() -> None:
    page = "```sh\na 127.0.0.1:2525\n```\n```console\n$ b\n```\n```sh root\nc\n```\n\n```sh\nd 2525\n```\n"
    said = re.sub(r"\b\d{5}\b", "PORT", script(page))
    assert said == "echo '--- line 1'\na 127.0.0.1:PORT\necho '--- line 11'\nd PORT\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_markers_are_known(page: Path) -> None:
    known = {"", ON_A_MACHINE, *NOT_RUN}
    unknown = [block.line for block in blocks(page.read_text()) if block.marker not in known]
    assert unknown == [], f"{page.name}: unknown words behind sh in these lines"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [path for path in PAGES if script(path.read_text())], ids=lambda path: str(path.relative_to(ROOT))
)
def test_commands_run(page: Path, place: Path) -> None:
    commands = script(page.read_text())
    here = place / "here"
    programs = place / "programs"
    here.mkdir()
    programs.mkdir()
    (programs / "ekiden").symlink_to(COMMAND)
    make = programs / "make"
    make.write_text(f'#!/bin/sh\nexec {shutil.which("make")} --dry-run --directory {ROOT} "$@" >/dev/null\n')
    make.chmod(0o755)
    ekiden = Ekiden(place)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(here),
        "EKIDEN_HOME": str(ekiden.home),
    }
    try:
        if "ekiden config" not in commands:
            ekiden.configure()
            ekiden.start()
        run(["sh", "-euc", commands], 100, cwd=here, env=environment)
    finally:
        ekiden.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [path for path in PAGES if script(path.read_text(), ON_A_MACHINE)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_commands_run_on_a_machine(page: Path, place: Path) -> None:
    for name in ("here", "programs", "var", "var/tmp"):
        (place / name).mkdir()
    (place / "programs" / "ekiden").symlink_to(COMMAND)
    try:
        machine = Fresh(place)
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        site = SITE.format(python=sys.executable, sink=sink.__file__, programs=place / "programs")
        machine.script(script(page.read_text(), ON_A_MACHINE), site, place / "here")
    finally:
        machine.stop()
