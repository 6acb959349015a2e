"""Manual pages: every program has one, groff understands them, and text stays text."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.peers.processes import program

from ekiden.installation.manual import FORMATS, Page, documents, pages
from ekiden.installation.roff import render
from ekiden.installation.scripts import texts

PAGES = {page.file: page for page in pages()}


def test_every_program_has_its_page_with_how_it_is_called() -> None:
    named = {file.rpartition(".")[0]: page for file, page in PAGES.items()}
    for name in texts(Path("/home")):
        text = named[name].text
        assert "\n.SH SYNOPSIS\n.B " + name.replace("-", r"\-") + "\n" in text, name
    assert PAGES.keys() >= FORMATS.keys()


def test_sections_are_the_originals() -> None:
    originals = "bouncesaying.1 forward.1 qmail-send.8 qmail-newmrh.8 tcp-env.1 dot-qmail.5 splogger.8 qmail.7"
    assert PAGES.keys() >= set(originals.split())


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_name_and_purpose(page: Page) -> None:
    lines = page.text.splitlines()
    assert lines[0].startswith('.TH "')
    name, mark, purpose = lines[2].partition(r" \- ")
    assert name.replace(r"\-", "-") == page.file.rpartition(".")[0]
    assert mark and len(purpose) > 5
    assert not purpose.endswith(".")


@pytest.mark.slow
def test_groff_has_nothing_to_say() -> None:
    for page in PAGES.values():
        argv = [program("groff"), "-man", "-ww", "-Tutf8", "-Kutf8"]
        done = subprocess.run(argv, input=page.text.encode(), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b""), page.file


@pytest.mark.slow
def test_man_shows_what_the_document_says(tmp_path: Path) -> None:
    document = (
        "# x\n\nDoes a thing, with `-o`. And more.\n\n.dot 'quote \\back\n\n## A head\n\n- one\n- two\n\nText.\n\n"
        "    code  kept\n    .x\n\n| a | b | c |\n|---|---|---|\n| `k` | v | w |\n"
    )
    argv = [program("groff"), "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-u"]
    shown = subprocess.run(argv, input=render("x", "1", document, "x -o").encode(), capture_output=True)
    assert shown.stderr == b""
    lines = [" ".join(line.split()) for line in shown.stdout.decode().splitlines()]
    all_of_it = ("x - Does a thing, with -o", "x -o", ".dot 'quote \\back", "A HEAD", "code kept", ".x", "k v; c: w")
    for wanted in all_of_it:
        assert wanted in lines, (wanted, lines)


def test_documents_are_the_projects_own() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert dict(documents()) == {path.name: path.read_text() for path in docs.glob("*.md")}
