"""Every target with the inputs that are kept, and with what hypothesis thinks of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import Phase, find, given, seed, settings
from hypothesis import strategies as st
from tests.fuzz import answers, corpus, frontiers, network, stores
from tests.fuzz.grammars import NEARLY_RIGHT, RIGHT
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS
from tests.wire.netstrings import Driven
from tests.wire.pop3.dialogue import Player as Pop3Player
from tests.wire.smtp.dialogue import Player as SmtpPlayer

from ekiden.delivery.remote_convert import UnconvertibleError, to_sevenbit
from ekiden.runtime.link import NO_FRAME
from ekiden.wire.dns import PTR, TXT, A, BadAnswer, decode_answer
from ekiden.wire.lines import mend_newlines
from ekiden.wire.proxy import parse_header
from ekiden.wire.qmqp import Session as Qmqp
from ekiden.wire.qmtp import Session as Qmtp

EXAMPLES = 120

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@every_target
def test_kept_inputs(target: Target) -> None:
    inputs = corpus.read(target.name)
    assert inputs, "nothing is kept for this target"
    for data in inputs:
        target.run(data)


@every_target
def test_any_octets(target: Target, pytestconfig: pytest.Config) -> None:
    """The same inputs each time; ``--seed`` gives others."""
    pieces = st.lists(st.sampled_from(target.pieces) | st.binary(max_size=6), max_size=16).map(b"".join)
    _judge(target, pieces, pytestconfig.getoption("--seed"))


@pytest.mark.parametrize("name", NEARLY_RIGHT)
def test_inputs_that_are_nearly_right(name: str, pytestconfig: pytest.Config) -> None:
    _judge(TARGETS[name], NEARLY_RIGHT[name], pytestconfig.getoption("--seed"))


def _judge(target: Target, inputs: st.SearchStrategy[bytes], chance: int | None) -> None:
    @settings(max_examples=EXAMPLES, derandomize=chance is None, database=None)
    @given(inputs)
    def judged(data: bytes) -> None:
        target.run(data)

    (judged if chance is None else seed(chance)(judged))()


@pytest.mark.parametrize("name", sorted({*NEARLY_RIGHT} - {"bounce", "dns-resolver"}))
def test_grammars_lead_somewhere(name: str) -> None:
    """What is right is understood: a grammar that its parser has left behind finds nothing."""

    only = settings(max_examples=1000, derandomize=True, database=None, phases=[Phase.generate])
    find(RIGHT[name], _REACHED[name], settings=only)


def _played(player: SmtpPlayer | Pop3Player, data: bytes) -> SmtpPlayer | Pop3Player:
    player.say(data[1:])
    return player


def _answered(data: bytes) -> object:
    kind = (A, PTR, TXT)[data[0]]
    query = answers._QUERIES[kind]
    packet = b"\0\x07" + data[2:4] + b"\0\1" + data[4:6] + b"\0\0\0\0" + query[12:] + data[6:]
    with suppress(BadAnswer):
        return decode_answer(packet, query).data
    return None


def _decoded(data: bytes) -> bool:
    for decoder in stores._DECODERS:
        with suppress(*NO_FRAME):
            decoder.decode(data)
            return True
    return False


def _address(data: bytes) -> object:
    with suppress(ValueError):
        header = parse_header(data)
        return header and header.address
    return None


def _encoded(data: bytes) -> bool:
    with suppress(UnconvertibleError):
        return b"quoted-printable" in to_sevenbit(mend_newlines(data))
    return False


_REACHED: dict[str, Callable[[bytes], object]] = {
    "smtp-server": lambda data: _played(SmtpPlayer(network._profile(data[0])), data).messages,
    "smtp-client": lambda data: [0] in answers._talk(data[0] & ~64, data[2:], 0).verdicts,
    "pop3-server": lambda data: _played(network._pop3_player(data[0] & ~16), data).removed,
    "netstrings": lambda data: Driven((Qmqp if data[0] & 1 else Qmtp)(0), [data[1:]]).messages,
    "dns-answer": _answered,
    "frames": _decoded,
    "link": lambda data: frontiers._heard_by_a_role([data])[0] if data else None,
    "proxy": _address,
    "sevenbit": _encoded,
}


@given(st.lists(st.binary(max_size=30)))
def test_corpus_gives_back_what_was_kept(inputs: list[bytes]) -> None:
    lines = [corpus.to_line(data) for data in inputs]
    assert [corpus.from_line(line) for line in lines] == inputs
    assert all(line.isascii() and "\n" not in line and not line.startswith("# ") for line in lines)
