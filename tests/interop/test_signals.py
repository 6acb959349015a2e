"""Signals at bad moments, starts at the same time, a stop in mid-start: one ekiden or none, and nothing lost."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.peers.accounting import Ledger
from tests.peers.client import LoadClient
from tests.peers.deliveries import account, drain
from tests.peers.ekiden import COMMAND, Ekiden
from tests.peers.processes import kill, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

HARMLESS = [signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH, signal.SIGURG]
"""What no process of ekiden's may end by."""

TO_SUPERVISOR = [*HARMLESS, signal.SIGUSR1, signal.SIGUSR2]


def supervisors(ekiden: Ekiden) -> list[int]:
    """Processes of this home whose parent is none of them."""
    pids = ekiden.pids()
    return [pid for pid in pids if parent(pid) not in pids]


def parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_of_many_starts_one_succeeds_and_the_others_say_why(home: Ekiden) -> None:
    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda _: home.command("start", check=False), range(4)))
        said = [result.stdout for result in done]
        assert said.count("") == 1 and sum("already runs" in text for text in said) == 3, said
        assert all(result.returncode <= ("already runs" in result.stdout) for result in done)
        assert supervisors(home) == [home.supervisor()]
        home.command("stop")
        assert home.pids() == set()


def test_who_looks_whether_it_runs_does_not_keep_it_from_starting(home: Ekiden) -> None:
    home.start()
    home.command("stop")
    over = threading.Event()

    def look() -> None:
        with (home.home / "run" / "lock").open() as file, contextlib.suppress(BlockingIOError):
            while not over.is_set():
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                time.sleep(0.02)
                fcntl.flock(file, fcntl.LOCK_UN)
                time.sleep(0.001)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        home.start()
    finally:
        over.set()
        looking.join()


@pytest.mark.parametrize("after", [0.1, 0.3])
def test_a_stop_in_mid_start_leaves_all_or_nothing(home: Ekiden, after: float) -> None:
    starting = subprocess.Popen([COMMAND, "--home", home.home, "start"], stderr=subprocess.PIPE)
    time.sleep(after)
    home.command("stop")
    starting.communicate(timeout=60)
    if starting.returncode == 0 and home.supervisor():
        home.command("stop")
    wait_until(lambda: home.pids() == set(), "nothing is left")
    home.start()
    assert json.loads(home.command("status", "--json").stdout)


def test_a_storm_of_signals_under_load(home: Ekiden, sink: Sink, pytestconfig: pytest.Config) -> None:
    """Every process gets any signal at any time, now and then also one that ends it."""
    seed = pytestconfig.getoption("--seed") or random.SystemRandom().randrange(1_000_000)
    chance = random.Random(seed)
    maildir = home.make_inbox("inbox")
    home.routes(f":{sink.route}")
    home.control("reloadseconds", "2")
    home.start()
    supervisor = home.supervisor()
    ledger = Ledger()
    client = LoadClient(home.port, ledger, ["somebody@sink.example", "inbox@ekiden.example"], sessions=4)
    sent = 0
    with client.running():
        until = time.monotonic() + 2
        while time.monotonic() < until:
            for pid in [supervisor, *home.roles()] * 5:
                kill(pid, chance.choice(TO_SUPERVISOR if pid == supervisor else HARMLESS))
                sent += 1
            if chance.random() < 0.1:
                kill(chance.choice(sorted(home.roles())), chance.choice([signal.SIGTERM, signal.SIGUSR1]))
            time.sleep(0.02)
    story = f"seed {seed}, {sent} signals, {len(ledger.acknowledged)} acknowledged"
    assert home.supervisor() == supervisor, story
    stuck = drain(home, 60)
    books = account(ledger, sink, maildir)
    print(f"{story}: {books}, {stuck} stuck")
    assert ledger.acknowledged and books and stuck == 0, f"{story}: {books}, {stuck} stuck\n{home.log()[-3000:]}"
    home.command("stop", seconds=30)
    wait_until(lambda: home.pids() == set(), "nothing is left")


def test_a_storm_of_reloads_leaves_as_many_processes_as_before(home: Ekiden, sink: Sink) -> None:
    home.routes(f":{sink.route}")
    home.start()
    before = sorted(home.roles().values())
    for number in range(30):
        home.control("concurrencyremote", str(10 + number))
        os.kill(home.supervisor(), signal.SIGHUP)
        time.sleep(0.01)
    home.reload()
    wait_until(lambda: sorted(home.roles().values()) == before, "those replaced have ended")
    assert home.status()["queue"]["limit"]["remote"] == 39
    ledger = Ledger()
    LoadClient(home.port, ledger, sessions=2, limit=20).run()
    sink.wait_for(20)
    assert len(ledger.acknowledged) == 20


def test_a_reload_while_the_queue_process_is_gone_holds_up_nothing(relay: Ekiden, sink: Sink) -> None:
    """The supervisor asks a process that has ended: it must not wait for its answer, but start another."""
    for _ in range(2):
        supervisor = relay.supervisor()
        kill(supervisor, signal.SIGSTOP)
        (victim,) = [pid for pid, role in relay.roles().items() if role == "queue"]
        kill(victim)
        kill(supervisor, signal.SIGHUP)
        kill(supervisor, signal.SIGCONT)
        wait_until(lambda gone=victim: "queue" in relay.roles().values() and gone not in relay.roles(), "another")
        ledger = Ledger()
        LoadClient(relay.port, ledger, sessions=1).send_until_acknowledged(1)
