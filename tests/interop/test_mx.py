"""Mail exchangers in DNS, asked of a real DNS server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.peers import nameserver
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import Ekiden
from tests.peers.nameserver import NameServer
from tests.peers.processes import free_port, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

ZONE = [
    nameserver.host("first.example", "127.0.0.2"),
    nameserver.host("second.example", "127.0.0.3"),
    nameserver.host("here.example", "127.0.0.1"),
    nameserver.host("six.example", "::1"),
    nameserver.host("alone.example", "127.0.0.2"),
    nameserver.mx("ordered.example", 10, "first.example"),
    nameserver.mx("ordered.example", 20, "second.example"),
    nameserver.mx("equal.example", 10, "first.example"),
    nameserver.mx("equal.example", 10, "second.example"),
    nameserver.alias("alias.example", "alone.example"),
    nameserver.null_mx("null.example"),
    nameserver.mx("mine.example", 10, "here.example"),
    nameserver.mx("mine.example", 20, "second.example"),
    nameserver.mx("backup.example", 10, "first.example"),
    nameserver.mx("backup.example", 20, "here.example"),
    nameserver.mx("empty.example", 10, "nowhere.example"),
    nameserver.broken("broken.example"),
]


@pytest.fixture
def port() -> int:
    """The port that all mail exchangers of the zone listen on."""
    return free_port("127.0.0.2")


@pytest.fixture
def routed(home: Ekiden, sink: Sink, port: int, make_nameserver: Callable[[list[str]], NameServer]) -> Ekiden:
    """A started ekiden that asks our DNS server; ``sender.example`` has a route to the plain sink, for bounces."""
    server = make_nameserver(ZONE)
    home.control("resolvers", f"127.0.0.1:{server.port}")
    home.control("remoteport", str(port))
    home.control("timeoutconnect", "5")
    home.routes(f"sender.example:{sink.route}")
    home.start()
    return home


@pytest.fixture
def first(make_sink: Callable[..., Sink], port: int) -> Sink:
    """The mail exchanger first.example."""
    return make_sink(host="127.0.0.2", port=port)


@pytest.fixture
def second(make_sink: Callable[..., Sink], port: int) -> Sink:
    """The mail exchanger second.example."""
    return make_sink(host="127.0.0.3", port=port)


def send(ekiden: Ekiden, domain: str, count: int = 1) -> None:
    """Messages to somebody in a domain."""
    with dialogue(ekiden.port) as talk:
        for _ in range(count):
            reply = talk.message(b"Subject: t\r\n\r\nhello\r\n", "a@sender.example", f"b@{domain}")
            assert reply[0] == "2", reply


def bounce_text(sink: Sink) -> str:
    """The only bounce's content."""
    (bounce,) = sink.wait_for(1)
    assert bounce.sender.startswith("<>")
    return bounce.content.decode("latin-1")


def test_lowest_preference_first(routed: Ekiden, first: Sink, second: Sink) -> None:
    send(routed, "ordered.example", 3)
    assert len(first.wait_for(3)) == 3
    assert second.received() == []


def test_next_one_when_the_first_is_down(routed: Ekiden, second: Sink) -> None:
    send(routed, "ordered.example")
    second.wait_for(1)


def test_equal_preferences_share_the_load(home: Ekiden, routed: Ekiden, first: Sink, second: Sink) -> None:
    # Connections are reused for a while, so that the choice is made anew only per connection.
    home.control("reusemessages", "1")
    home.reload()
    send(routed, "equal.example", 40)
    wait_until(lambda: len(first.received()) + len(second.received()) == 40, "all delivered")
    assert first.received()
    assert second.received()


@pytest.mark.parametrize("domain", ["alone.example", "alias.example"], ids=["no-mx", "cname"])
def test_address_record_without_mx(routed: Ekiden, first: Sink, domain: str) -> None:
    send(routed, domain)
    first.wait_for(1)


def test_backup_delivers_to_better_ones(routed: Ekiden, first: Sink) -> None:
    send(routed, "backup.example")
    first.wait_for(1)


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("null.example", "5.1.10"),
        ("nowhere.example", "5.1.2"),
        ("empty.example", "5.4.4"),
    ],
)
def test_bounces_at_once(routed: Ekiden, sink: Sink, second: Sink, domain: str, status: str) -> None:
    send(routed, domain)
    assert status in bounce_text(sink)
    assert second.received() == []


def test_address_of_the_new_kind_alone(routed: Ekiden, make_sink: Callable[..., Sink], port: int) -> None:
    six = make_sink(host="::1", port=port)
    send(routed, "six.example")
    six.wait_for(1)


@pytest.mark.parametrize("domain", ["mine.example", "backup.example", "six.example"])
def test_mail_for_ourselves_does_not_loop(home: Ekiden, routed: Ekiden, sink: Sink, domain: str) -> None:
    """Exchangers at the port that we listen on: each of these loopback addresses is then this very host."""
    home.control("remoteport", str(home.port))
    home.reload()
    send(routed, domain)
    assert "5.4.6" in bounce_text(sink)


def test_silent_nameserver_defers_and_holds_up_nobody_else(routed: Ekiden, sink: Sink, first: Sink) -> None:
    routed.control("timeoutdns", "15")
    routed.control("shutdownseconds", "2")
    routed.reload()
    send(routed, "www.broken.example", 50)
    send(routed, "alone.example")
    first.wait_for(1)
    assert "4.4.3" not in str(routed.queue()), "the others still wait for the DNS"
    wait_until(lambda: "4.4.3" in str(routed.queue()), "deferred for the DNS's sake", step=0.5)
    assert sink.received() == []
