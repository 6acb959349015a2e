"""Fixtures: ekiden in a home of its own, and the real peers it talks to.

A peer that is not installed fails a test; one that needs root is skipped without.
"""

from __future__ import annotations

import compileall
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Tests and benchmarks share the peers as ``tests.peers``, whatever directory pytest is started in.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.peers.certificate import Certificate, make_certificate
from tests.peers.dovecot import Dovecot
from tests.peers.ekiden import Ekiden, made
from tests.peers.fresh import Fresh
from tests.peers.nameserver import NameServer
from tests.peers.postfix import Postfix
from tests.peers.processes import Unavailable, free_port, short_directory
from tests.peers.sinks import Sink

# How fast an example runs depends on what else the machine does: no test fails for that.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the crash tests."""
    group = parser.getgroup("crash tests")
    group.addoption("--kills", type=int, default=40, help="how many times the crash tests kill a role (default: 40)")
    group.addoption("--soak-seconds", type=float, default=30, help="how long the soak lasts (default: 30)")
    group.addoption("--states", type=int, default=1, help="random disk states per point of a power loss (default: 1)")
    group.addoption("--every-point", action="store_true", help="try every point of sampled tests")
    group.addoption("--part", default="1/1", help="which part of every error to try, as in 2/4 (default: 1/1)")
    group.addoption("--deliveries", type=int, default=1000, help="how many random .qmail files (default: 1000)")
    group.addoption("--seed", type=int, default=None, help="repeat a crash test with the seed that it printed")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once, as an installation does, even where the environment forbids to on the way."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(__file__).parent.parent / "src" / "ekiden", quiet=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what every ekiden has logged."""
    report = yield
    if report.failed:
        logs = ((ekiden.home / "log", ekiden.log()) for ekiden in made)
        report.sections += [(str(path), log[-8000:]) for path, log in logs if log]
    return report


@pytest.fixture(autouse=True)
def own_zone() -> Iterator[None]:
    """A test's TZ ends with it: whatever looks at the time, such as strptime, makes it the whole process's."""
    yield
    time.tzset()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path that peers' own users can enter; removed afterwards."""
    with short_directory("ekiden") as path:
        yield path


@pytest.fixture
def fresh(place: Path) -> Iterator[Fresh]:
    """A machine that has never seen qmail."""
    try:
        machine = Fresh(place)
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield machine
    machine.stop()


@pytest.fixture
def home(place: Path) -> Iterator[Ekiden]:
    """A configured ekiden that is not started yet; the test starts it, the fixture ends it."""
    ekiden = Ekiden(place)
    ekiden.configure()
    yield ekiden
    ekiden.stop()


@pytest.fixture
def make_sink(place: Path) -> Iterator[Callable[..., Sink]]:
    """Start a recording sink: ``make_sink(*options, host=...)``. All share no record."""
    with ExitStack() as running:
        numbers = iter(range(1000))

        def make(*options: str, **keywords: Any) -> Sink:
            sink = Sink(place / f"sink-{next(numbers)}", *options, **keywords)
            running.callback(sink.stop)
            sink.start()
            return sink

        yield make


@pytest.fixture
def sink(make_sink: Callable[..., Sink]) -> Sink:
    """A recording sink that takes everything."""
    return make_sink()


@pytest.fixture
def relay(home: Ekiden, sink: Sink) -> Ekiden:
    """A started ekiden that sends everything to the sink."""
    home.routes(f":{sink.route}")
    home.start()
    return home


@pytest.fixture(scope="session")
def certificate() -> Iterator[Certificate]:
    """A self-signed certificate for loopback names."""
    with short_directory("tls") as path:
        yield make_certificate(path)


@pytest.fixture
def make_postfix(place: Path) -> Iterator[Callable[..., Postfix]]:
    """Start a private Postfix with these main.cf parameters: ``make_postfix(relayhost=...)``."""
    with ExitStack() as running:
        numbers = iter(range(1000))

        def make(**parameters: str) -> Postfix:
            try:
                postfix = Postfix(place / f"postfix-{next(numbers)}", free_port(), parameters)
            except Unavailable as reason:
                pytest.skip(str(reason))
            running.callback(postfix.stop)
            postfix.start()
            return postfix

        yield make


@pytest.fixture
def make_nameserver(place: Path) -> Iterator[Callable[[list[str]], NameServer]]:
    """Start a DNS server with these records."""
    with ExitStack() as running:

        def make(records: list[str]) -> NameServer:
            server = NameServer(place, records)
            running.callback(server.stop)
            server.start()
            return server

        yield make


@pytest.fixture
def dovecot(place: Path) -> Iterator[Dovecot]:
    """A started Dovecot that takes mail by LMTP."""
    try:
        server = Dovecot(place / "dovecot")
    except Unavailable as reason:
        pytest.skip(str(reason))
    server.start()
    yield server
    server.stop()
