"""A page of the documentation as a manual page, in the macros of man(7)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER = MarkdownIt("commonmark").enable("table")
_SENTENCE = re.compile(r"(?<=[a-z0-9)`])[.:](?:\s|$)")
_INLINE = {"strong_open": r"\fB", "strong_close": r"\fP", "em_open": r"\fI", "em_close": r"\fP"}


def render(name: str, section: str, text: str, called: str = "") -> str:
    """The page ``NAME(SECTION)``. The document's title gives way to NAME, its first sentence says what it is for."""
    tokens = _PARSER.parse(text)
    body = _body_of(tokens)
    lines = [f'.TH {_quoted(name)} {section} "" ekiden', ".SH NAME", rf"{_escape(name)} \- {_purpose(tokens)}"]
    if called:
        program, _space, arguments = called.partition(" ")
        lines += (
            [".SH SYNOPSIS", rf".B {_escape(program)}", _escape(arguments)]
            if arguments
            else [
                ".SH SYNOPSIS",
                rf".B {_escape(program)}",
            ]
        )
    lines += [".SH DESCRIPTION", *_blocks(body)]
    return "\n".join(line for line in lines if line) + "\n"


def _body_of(tokens: Sequence[Token]) -> list[Token]:
    """Everything but the title."""
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        return list(tokens[3:])
    return list(tokens)


def _purpose(tokens: Sequence[Token]) -> str:
    """The first sentence of the first paragraph, without its full stop."""
    for before, token in itertools.pairwise(tokens):
        if before.type == "paragraph_open":
            plain = " ".join(token.content.replace("`", "").split())
            return _escape(_SENTENCE.split(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain), maxsplit=1)[0])
    return ""


def _blocks(tokens: Sequence[Token]) -> Iterator[str]:
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.type == "table_open":
            end = _closing(tokens, place)
            yield from _table(tokens[place:end])
            place = end
        elif token.type == "heading_open":
            heading = _text(tokens[place + 1])
            yield f".SH {_quoted(heading.upper())}" if token.tag == "h2" else f".SS {_quoted(heading)}"
            place += 2
        elif token.type == "list_item_open":
            mark = rf"{token.info}." if token.info else r"\(bu"
            yield f".IP {mark} 4"
            # The item's first paragraph stands beside its mark.
            place += 1
        elif token.type in ("code_block", "fence"):
            yield from (
                ".PP",
                ".RS 4",
                ".nf",
                *(_line(_escape(line)) for line in token.content.splitlines()),
                ".fi",
                ".RE",
            )
        elif token.type == "inline":
            yield from _paragraph(tokens, place)
        place += 1


def _paragraph(tokens: Sequence[Token], place: int) -> Iterator[str]:
    in_item = place >= 2 and tokens[place - 2].type == "list_item_open"
    if not in_item:
        yield ".PP"
    yield from map(_line, _text(tokens[place]).splitlines())


def _table(tokens: Sequence[Token]) -> Iterator[str]:
    """Each row as a tagged paragraph: man(1) shows it in any width."""
    head: list[str] = []
    row: list[str] = []
    for before, token in itertools.pairwise(tokens):
        if token.type == "tr_open":
            row = []
        elif token.type == "inline":
            (head if before.type == "th_open" else row).append(_text(token))
        elif token.type == "tr_close" and row:
            yield ".TP"
            yield rf"\fB{row[0]}\fP" if row[0] else r"\&"
            said = [
                f"{title}: {cell}" if title and place else cell
                for place, (title, cell) in enumerate(zip(head[1:], row[1:], strict=False))
                if cell
            ]
            yield _line("; ".join(said)) or r"\&"


def _closing(tokens: Sequence[Token], place: int) -> int:
    return next(at for at in range(place, len(tokens)) if tokens[at].type == "table_close")


def _text(token: Token) -> str:
    """Inline text with fonts."""
    said = []
    for child in token.children or []:
        if child.type == "text":
            said.append(_escape(child.content))
        elif child.type == "code_inline":
            said.append(rf"\fB{_escape(child.content)}\fP")
        elif child.type in ("softbreak", "hardbreak"):
            said.append("\n")
        else:
            said.append(_INLINE.get(child.type, ""))
    return "".join(said)


def _escape(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-")


def _line(text: str) -> str:
    """A line that is text, whatever it begins with."""
    return rf"\&{text}" if text.startswith((".", "'")) else text


def _quoted(text: str) -> str:
    escaped = text.replace('"', r"\(dq")
    return f'"{escaped}"'
