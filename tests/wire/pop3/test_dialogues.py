"""Every transcript ``pop3d-*`` of tests/dialogues: step by step, whole, octet by octet, with data after its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.wire.pop3.profile import Profile

from .dialogue import DIALOGUES, Dialogue, Player, read

TRANSCRIPTS = sorted(DIALOGUES.glob("pop3d-*.txt"))

each = pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)


def start(dialogue: Dialogue) -> Player:
    return Player(Profile(**dialogue.profile))


def expected(dialogue: Dialogue) -> bytes:
    return b"".join(step.expected for step in dialogue.steps)


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 12


@each
def test_step_by_step(path: Path) -> None:
    dialogue = read(path)
    player = start(dialogue)
    for step in dialogue.steps:
        if step.tls:
            player.secure()
        if step.said:
            player.say(step.said)
        assert player.output.decode() == step.expected.decode()
        player.output = b""
    assert player.removed == dialogue.removed


@each
def test_octet_by_octet(path: Path) -> None:
    dialogue = read(path)
    player = start(dialogue)
    if "stls-plaintext" in path.stem:
        pytest.skip("what matters is what comes in one piece")
    for step in dialogue.steps:
        if step.tls:
            player.secure()
        for octet in step.said:
            player.say(bytes([octet]))
    assert player.output.decode() == expected(dialogue).decode()
    assert player.removed == dialogue.removed


@each
@pytest.mark.parametrize("trailing", [b"", b"never ended", b"\0" * 70_000])
def test_whole(path: Path, trailing: bytes) -> None:
    dialogue = read(path)
    if dialogue.only_steps:
        pytest.skip("has to be said in steps")
    player = start(dialogue)
    player.say(b"".join(step.said for step in dialogue.steps) + trailing)
    assert player.ended
    assert player.output.decode() == expected(dialogue).decode()
    assert player.removed == dialogue.removed
