"""Every transcript of tests/dialogues: step by step, whole, octet by octet, and with data after its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.wire.smtp.profile import Profile

from .dialogue import DIALOGUES, Dialogue, Player, read

TRANSCRIPTS = sorted([*DIALOGUES.glob("smtpd-*.txt"), *DIALOGUES.glob("lmtp-*.txt")])

each = pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)


def start(dialogue: Dialogue) -> Player:
    return Player(Profile("mx.example", **dialogue.profile))  # type: ignore[arg-type]


def expected(dialogue: Dialogue) -> bytes:
    return b"".join(step.expected for step in dialogue.steps)


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 15


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
    assert player.messages == dialogue.messages


@each
def test_octet_by_octet(path: Path) -> None:
    dialogue = read(path)
    player = start(dialogue)
    for step in dialogue.steps:
        if step.tls:
            player.secure()
        for octet in step.said:
            player.say(bytes([octet]))
    assert player.output.decode() == expected(dialogue).decode()
    assert player.messages == dialogue.messages


@each
@pytest.mark.parametrize("trailing", [b"", b"never ended", b"\0" * 70_000])
def test_whole(path: Path, trailing: bytes) -> None:
    dialogue = read(path)
    if dialogue.only_steps:
        pytest.skip("has to be said in steps")
    player = start(dialogue)
    player.say(b"".join(step.said for step in dialogue.steps) + (trailing if len(trailing) < 2048 else b""))
    if len(trailing) >= 2048 and player.ended:
        player.say(trailing)
    assert player.output.decode() == expected(dialogue).decode()
    assert player.messages == dialogue.messages
