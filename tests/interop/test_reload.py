"""A reload as clients and administrators see it: no connection dropped, no limit forgotten, no reason kept back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate, make_certificate
from tests.peers.ekiden import Ekiden
from tests.peers.processes import free_port, kill, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow


def offers(client: smtplib.SMTP, words: str) -> bool:
    return words in client.ehlo()[1].decode()


def connected(ekiden: Ekiden) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", ekiden.port, timeout=60)


def doors(ekiden: Ekiden) -> list[int]:
    return [pid for pid, role in ekiden.roles().items() if role == "smtpd"]


def test_a_session_goes_on_with_the_settings_it_began_with(relay: Ekiden, sink: Sink) -> None:
    relay.control("databytes", "11111")
    relay.reload()
    old = connected(relay)
    assert offers(old, "SIZE 11111")
    relay.control("databytes", "22222")
    relay.reload()
    wait_until(lambda: len(doors(relay)) == 2, "only the process of the open session is left of the old ones")
    with connected(relay) as new:
        assert offers(new, "SIZE 22222")
    assert offers(old, "SIZE 11111")
    old.sendmail("a@a.example", "b@b.example", "Subject: after the reload\n\nhello\n")
    assert sink.wait_for(1)[0].header("Subject") == "after the reload"
    old.quit()
    wait_until(lambda: len(doors(relay)) == 1, "the old process ends with its last session")


def test_a_reload_is_done_when_the_old_processes_let_nobody_in_any_more(home: Ekiden) -> None:
    home.start()
    (old,) = doors(home)
    home.control("databytes", "44444")
    kill(old, signal.SIGSTOP)
    try:
        kill(home.supervisor(), signal.SIGHUP)
        with connected(home) as client:
            assert offers(client, "SIZE 44444")
        assert doors(home) == [old], "when it goes on, it may let one more in before it hears of the reload"
    finally:
        kill(old, signal.SIGCONT)
    wait_until(lambda: len(doors(home)) == 1 and doors(home) != [old], "the new one has taken its place")


def test_an_old_session_ends_when_two_later_reloads_are_too_many(home: Ekiden) -> None:
    home.start()
    first = connected(home)
    for _ in range(2):
        home.reload()
        assert first.noop()[0] == 250
    home.reload()
    assert first.getreply()[0] == 421
    wait_until(lambda: len(doors(home)) == 1, "nothing is left of the old ones")


def test_a_reload_changes_the_log(relay: Ekiden, sink: Sink) -> None:
    relay.control("logformat", "json")
    relay.control("logfilebytes", "65536")
    relay.reload()
    wait_until(lambda: list(relay.roles().values()).count("log") == 1, "the old process has ended")
    before = len(relay.log())
    with connected(relay) as client:
        for number in range(120):
            client.sendmail("a@a.example", f"{number:060}@b.example", "Subject: test\n\nhello\n")
    sink.wait_for(120)
    wait_until(lambda: (relay.home / "log" / "ekiden.log.1").exists(), "a small file is full soon")
    lines = relay.log()[before:].splitlines()
    assert {json.loads(line)["role"] for line in lines[1:]} >= {"queue"}, "the queue, which goes on, says it so too"


def test_an_old_session_ends_after_reloadseconds(home: Ekiden) -> None:
    home.control("reloadseconds", "1")
    home.start()
    old = connected(home)
    begun = time.monotonic()
    home.reload()
    assert old.getreply()[0] == 421
    assert time.monotonic() - begun >= 1, "not at once"


def test_stop_ends_old_sessions_too(home: Ekiden) -> None:
    home.start()
    old = connected(home)
    home.reload()
    home.command("stop")
    assert old.getreply()[0] == 421


def test_a_port_in_use_is_said_at_once(home: Ekiden) -> None:
    home.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        home.control("databytes", "33333")
        home.control("listen", f"smtp 127.0.0.1:{free_port()}", f"smtp 127.0.0.1:{port}")
        refused = home.command("reload", check=False)
    assert refused.returncode == 1
    assert f"control/listen: smtp 127.0.0.1:{port}: Address already in use" in refused.stdout
    with connected(home) as client:
        assert not offers(client, "33333"), "the old settings are in force, whole"
    home.reload()
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        assert offers(client, "SIZE 33333")


def test_a_reload_waits_for_a_queue_that_is_slow_to_answer(home: Ekiden) -> None:
    """It once said after ten seconds that nothing was changed, and then it was."""
    home.start()
    home.control("databytes", "55555")
    (queue,) = (pid for pid, role in home.roles().items() if role == "queue")
    kill(queue, signal.SIGSTOP)
    going_on = threading.Timer(11, kill, (queue, signal.SIGCONT))
    going_on.start()
    home.reload()
    going_on.join()
    with connected(home) as client:
        assert offers(client, "SIZE 55555")
    assert queue in home.roles()


def test_a_reload_that_nobody_carries_out_is_said(home: Ekiden) -> None:
    home.start()
    supervisor = home.supervisor()
    kill(supervisor, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        reloading = pool.submit(home.command, "reload", check=False)
        wait_until(lambda: has_pending(supervisor, signal.SIGHUP), "it is told to reload")
        kill(supervisor)
    refused = reloading.result()
    assert refused.returncode == 1
    assert f"process {supervisor} has ended before it took the new settings" in refused.stdout


def has_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a stopped process has a signal to take."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("ShdPnd:")[2].split()[0], 16) & 1 << number - 1)


def test_an_address_that_ekiden_itself_holds(home: Ekiden) -> None:
    home.start()
    home.control("listen", f"smtp *:{home.port}")
    refused = home.command("reload", check=False)
    assert f"ekiden listens on 127.0.0.1:{home.port} itself until it is stopped" in refused.stdout


# Limits


def greeting(ekiden: Ekiden, held: list[socket.socket]) -> bytes:
    """Open a connection; the greeting's code."""
    held.append(socket.create_connection(("127.0.0.1", ekiden.port), timeout=60))
    return held[-1].recv(3)


@pytest.mark.parametrize("limit", ["connectionsperclient", "connectionsmax"])
def test_limits_hold_over_processes_and_reloads(home: Ekiden, limit: str) -> None:
    home.control("smtpdprocesses", "3")
    home.control(limit, "10")
    home.start()
    held: list[socket.socket] = []
    try:
        assert [greeting(home, held) for _ in range(12)] == [b"220"] * 10 + [b"421"] * 2
        home.reload()
        assert greeting(home, held) == b"421", "those who came before the reload count"
        held[0].close()
        wait_until(lambda: greeting(home, held) == b"220", "who leaves makes room")
        for pid in doors(home):
            kill(pid)
        wait_until(lambda: welcome(home, held), "a process that was killed has no clients")
        assert [greeting(home, held) for _ in range(10)] == [b"220"] * 9 + [b"421"]
    finally:
        for each in held:
            each.close()


def welcome(ekiden: Ekiden, held: list[socket.socket]) -> bool:
    with contextlib.suppress(ConnectionError):
        return greeting(ekiden, held) == b"220"
    return False


# Certificates


@pytest.fixture
def certificates(place: Path) -> Iterator[list[Certificate]]:
    """Two, so that one can take the other's place."""
    made = []
    for name in ("one", "other"):
        (place / name).mkdir()
        made.append(make_certificate(place / name))
    yield made


def put(ekiden: Ekiden, name: str, content: bytes) -> None:
    """Write a file that only its owner may read, in another's place."""
    path = ekiden.home / "control" / name
    beside = path.with_name(f"{name}.new")
    beside.touch(0o600)
    beside.write_bytes(content)
    beside.rename(path)


def shown(port: int, implicit: bool) -> bytes:
    """The certificate that a client is shown, in DER."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if implicit:
        with smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=60) as client:
            return certificate_of(client)
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.starttls(context=context)
        return certificate_of(client)


def certificate_of(client: smtplib.SMTP) -> bytes:
    assert isinstance(client.sock, ssl.SSLSocket)
    return client.sock.getpeercert(binary_form=True) or b""


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text())


def test_certificates_of_root_alone_are_shown_and_exchanged(home: Ekiden, certificates: list[Certificate]) -> None:
    one, other = certificates
    secured = free_port()
    home.control("listen", f"smtp 127.0.0.1:{home.port}", f"smtps 127.0.0.1:{secured}")
    put(home, "servercert.pem", one.certificate.read_bytes())
    put(home, "serverkey.pem", one.key.read_bytes())
    home.start()
    if os.getuid() == 0:
        (door,) = doors(home)
        assert Path(f"/proc/{door}").stat().st_uid != 0
    ports = ((home.port, False), (secured, True))
    assert {shown(*port) for port in ports} == {der(one)}
    with connected(home) as session:
        session.ehlo()
        put(home, "servercert.pem", other.certificate.read_bytes())
        put(home, "serverkey.pem", other.key.read_bytes())
        wait_until(lambda: shown(*ports[0]) == der(other), "the new certificate is shown")
        assert {shown(*port) for port in ports} == {der(other)}
        assert session.noop()[0] == 250
    told = f"tls: new certificate from {home.home}/control/servercert.pem\n"
    wait_until(lambda: told in home.log(), "the log says so")
    put(home, "serverkey.pem", one.key.read_bytes())
    wait_until(lambda: "TLS goes on with the certificate that it had" in home.log(), "the log says what is wrong")
    assert {shown(*port) for port in ports} == {der(other)}
    (home.home / "control" / "serverkey.pem").unlink()
    wait_until(lambda: "serverkey.pem: No such file" in home.log(), "the log says that a file is gone")
    assert shown(*ports[1]) == der(other)
