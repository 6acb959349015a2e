"""The MX rules against zones written down as dictionaries."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from ekiden.base.outcome import Outcome, Verdict
from ekiden.routing.destination import Destination, parse_destination
from ekiden.routing.mx import BEST_IS_ME, LOOKUP_FAILED, Answer, Answered, Host, Question, Surroundings, find_hosts

Records = list[tuple[int, bytes]] | list[str] | Answered


@dataclass
class Zone:
    """``records`` by (name, kind); what is missing has no name, unless another kind is there."""

    records: dict[tuple[bytes, str], Records]
    asked: list[Question] = field(default_factory=list)

    def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        found = self.records.get((question.name, question.kind))
        if isinstance(found, Answered):
            return Answer(found)
        if found is None:
            known = any(name == question.name for name, _ in self.records)
            return Answer(Answered.NOTHING if known else Answered.NO_NAME)
        if question.kind == "MX":
            return Answer(Answered.FOUND, exchangers=tuple(found))  # type: ignore[arg-type]
        return Answer(Answered.FOUND, addresses=tuple(found))  # type: ignore[arg-type]


def find(
    zone: Zone, destination: Destination | bytes, here: Surroundings | None = None, seed: int = 1
) -> list[Host] | Outcome:
    if isinstance(destination, bytes):
        destination = parse_destination(destination)
    search = find_hosts(destination, here or Surroundings(lambda _: False), random.Random(seed))
    try:
        questions = next(search)
        while True:
            questions = search.send([zone.answer(question) for question in questions])
    except StopIteration as found:
        return found.value  # type: ignore[no-any-return]


def addresses(found: list[Host] | Outcome) -> list[str]:
    assert not isinstance(found, Outcome), found
    return [host.address for host in found]


def test_preference_decides() -> None:
    zone = Zone(
        {
            (b"x.example", "MX"): [(20, b"b.example"), (10, b"a.example"), (30, b"c.example")],
            (b"a.example", "A"): ["192.0.2.1"],
            (b"b.example", "A"): ["192.0.2.2"],
            (b"c.example", "A"): ["192.0.2.3"],
        }
    )
    found = find(zone, b"x.example")
    assert found == [
        Host("192.0.2.1", 25, b"a.example", 10),
        Host("192.0.2.2", 25, b"b.example", 20),
        Host("192.0.2.3", 25, b"c.example", 30),
    ]


def test_equal_preferences_share_the_load() -> None:
    names = [b"a.example", b"b.example", b"c.example"]
    zone = Zone({(b"x.example", "MX"): [(10, name) for name in names]})
    for number, name in enumerate(names):
        zone.records[name, "A"] = [f"192.0.2.{number}"]
    first = Counter(addresses(find(zone, b"x.example", seed=seed))[0] for seed in range(300))
    assert len(first) == 3
    assert min(first.values()) > 60


def test_both_families_in_turn() -> None:
    zone = Zone(
        {
            (b"x.example", "MX"): [(10, b"a.example")],
            (b"a.example", "A"): ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
            (b"a.example", "AAAA"): ["2001:db8::1"],
        }
    )
    assert addresses(find(zone, b"x.example")) == ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]
    here = Surroundings(lambda _: False, ipv6=False)
    assert addresses(find(zone, b"x.example", here)) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert Question(b"a.example", "AAAA") not in zone.asked[-2:]


def test_the_implicit_mx() -> None:
    zone = Zone({(b"x.example", "A"): ["192.0.2.1"]})
    assert find(zone, b"x.example") == [Host("192.0.2.1", 25, b"x.example", 0)]


def test_no_address_fallback_where_an_mx_exists() -> None:
    zone = Zone({(b"x.example", "MX"): [(10, b"gone.example")], (b"x.example", "A"): ["192.0.2.1"]})
    found = find(zone, b"x.example")
    assert isinstance(found, Outcome)
    assert (found.verdict, found.status) == (Verdict.FAILED, "5.4.4")


@pytest.mark.parametrize(
    ("records", "verdict", "status", "text"),
    [
        ({}, Verdict.FAILED, "5.1.2", "Sorry, I couldn't find any host named x.example. (#5.1.2)\n"),
        (
            {(b"x.example", "TXT"): []},
            Verdict.FAILED,
            "5.1.2",
            "Sorry, I couldn't find any host named x.example. (#5.1.2)\n",
        ),
        (
            {(b"x.example", "MX"): Answered.FAILED},
            Verdict.DEFERRED,
            "4.4.3",
            "CNAME lookup failed temporarily. (#4.4.3)\n",
        ),
        (
            {(b"x.example", "A"): Answered.FAILED},
            Verdict.DEFERRED,
            "4.4.3",
            "CNAME lookup failed temporarily. (#4.4.3)\n",
        ),
        (
            {(b"x.example", "MX"): [(0, b"")]},
            Verdict.FAILED,
            "5.1.10",
            "Sorry, x.example says in the DNS that it takes no mail (null MX). (#5.1.10)\n",
        ),
    ],
)
def test_no_hosts(records: dict[tuple[bytes, str], Records], verdict: Verdict, status: str, text: str) -> None:
    found = find(Zone(records), b"x.example")
    assert isinstance(found, Outcome)
    assert (found.verdict, found.status, found.text) == (verdict, status, text)


def test_a_null_mx_beside_others_is_no_null_mx() -> None:
    zone = Zone({(b"x.example", "MX"): [(0, b""), (10, b"a.example")], (b"a.example", "A"): ["192.0.2.1"]})
    assert addresses(find(zone, b"x.example")) == ["192.0.2.1"]


def test_a_failed_lookup_of_one_exchanger_leaves_the_others() -> None:
    zone = Zone(
        {
            (b"x.example", "MX"): [(5, b"a.example"), (10, b"b.example")],
            (b"a.example", "A"): Answered.FAILED,
            (b"b.example", "A"): ["192.0.2.2"],
        }
    )
    assert addresses(find(zone, b"x.example")) == ["192.0.2.2"]


ME = {
    (b"x.example", "MX"): [(10, b"a.example"), (20, b"me.example"), (20, b"b.example"), (30, b"c.example")],
    (b"a.example", "A"): ["192.0.2.1"],
    (b"b.example", "A"): ["192.0.2.2"],
    (b"c.example", "A"): ["192.0.2.3"],
    (b"me.example", "A"): ["192.0.2.9"],
}


@pytest.mark.parametrize(
    "here",
    [
        Surroundings(lambda address: address == "192.0.2.9"),
        Surroundings(lambda _: False, frozenset({b"me.example"})),
    ],
)
def test_only_hosts_better_than_me_are_tried(here: Surroundings) -> None:
    assert addresses(find(Zone(dict(ME)), b"x.example", here)) == ["192.0.2.1"]


def test_best_mx_is_me() -> None:
    here = Surroundings(lambda address: address == "192.0.2.1")
    found = find(Zone(dict(ME)), b"x.example", here)
    assert isinstance(found, Outcome)
    assert (found.verdict, found.status) == (Verdict.FAILED, "5.4.6")
    assert found.text.startswith("Sorry. Although I'm listed as a best-preference MX or A for that host,\n")


@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_an_exchanger_better_than_me_that_cannot_be_looked_up_may_be_there_later(kind: str) -> None:
    zone = Zone(dict(ME))
    del zone.records[b"a.example", "A"]
    zone.records[b"a.example", kind] = Answered.FAILED
    assert find(zone, b"x.example", Surroundings(lambda address: address == "192.0.2.9")) == LOOKUP_FAILED
    assert find(zone, b"x.example", Surroundings(lambda _: False, frozenset({b"me.example"}))) == LOOKUP_FAILED


def test_an_exchanger_that_is_not_better_than_me_need_not_be_looked_up() -> None:
    zone = Zone(dict(ME))
    zone.records[b"c.example", "A"] = Answered.FAILED
    assert find(zone, b"x.example", Surroundings(lambda address: address == "192.0.2.1")) == BEST_IS_ME


@pytest.mark.parametrize("found", [None, Answered.FAILED])
def test_mail_for_my_own_name_goes_to_no_worse_exchanger_even_if_it_has_no_address(found: Records | None) -> None:
    zone = Zone(dict(ME))
    del zone.records[b"a.example", "A"]
    del zone.records[b"me.example", "A"]
    if found is not None:
        zone.records[b"me.example", "A"] = found
    here = Surroundings(lambda _: False, frozenset({b"me.example"}))
    assert find(zone, b"x.example", here) == BEST_IS_ME


def test_an_artificial_route_asks_for_no_mx_and_may_lead_to_me() -> None:
    zone = Zone({(b"relay.example", "A"): ["192.0.2.1"], (b"relay.example", "MX"): [(1, b"other.example")]})
    here = Surroundings(lambda address: address == "192.0.2.1")
    assert find(zone, b"relay.example:26", here) == [Host("192.0.2.1", 26, b"relay.example")]
    assert {question.kind for question in zone.asked} == {"A", "AAAA"}


def test_a_relay_without_address_is_the_administrators_to_mend_and_fails_nobodys_mail() -> None:
    found = find(Zone({}), b"gone.example:25")
    assert isinstance(found, Outcome)
    assert (found.verdict, found.status) == (Verdict.DEFERRED, "4.3.5")
    assert found.text.startswith("Sorry, I couldn't find any host named gone.example, the relay")


@pytest.mark.parametrize(
    ("key", "address", "port"),
    [
        (b"[192.0.2.1]", "192.0.2.1", 25),
        (b"[192.0.2.1]:26", "192.0.2.1", 26),
        (b"[2001:db8::1]:25", "2001:db8::1", 25),
    ],
)
def test_literals_ask_nothing(key: bytes, address: str, port: int) -> None:
    zone = Zone({})
    assert find(zone, key) == [Host(address, port)]
    assert zone.asked == []


@pytest.mark.parametrize("name", [b"localhost", b"localhost.", b"mail.localhost"])
def test_localhost_needs_no_dns(name: bytes) -> None:
    zone = Zone({})
    assert addresses(find(zone, name + b":26")) == ["::1", "127.0.0.1"]
    assert addresses(find(zone, name, Surroundings(lambda _: False, ipv6=False))) == ["127.0.0.1"]
    assert find(zone, name, Surroundings(lambda _: True)) == BEST_IS_ME
    assert zone.asked == []
    assert isinstance(find(zone, b"notlocalhost:26"), Outcome)


def test_a_flood_of_exchangers_is_cut() -> None:
    zone = Zone({(b"x.example", "MX"): [(number, b"m%d.example" % number) for number in range(5000)]})
    zone.records[b"m0.example", "A"] = ["192.0.2.1"]
    assert addresses(find(zone, b"x.example")) == ["192.0.2.1"]
    assert len(zone.asked) < 100
