"""POP3 from the daemon, as real mail programs see it: who gets in, as which user, and what is left in the mailbox."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import poplib
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import free_port, is_alive, run, wait_until

pytestmark = pytest.mark.slow

WORD = "secret word"
MESSAGES = {"1.a.h": b"Subject: one\n\nbody\n.dot\n", "2.b.h:2,S": b"Subject: two\n\nsecond\n"}
USER = os.getuid() or 4343
"""Whose mailbox it is: nobody's but the user's, if we can make it so."""


class PostOffice:
    """An ekiden with POP3 listeners and the user jiro."""

    def __init__(self, home: Ekiden) -> None:
        self.ekiden = home
        self.port, self.tls_port = free_port(), free_port()
        self.user = home.home.parent / "jiro"
        self.maildir = self.user / "Maildir"
        for part in ("cur", "new", "tmp"):
            (self.maildir / part).mkdir(parents=True)
        for name, content in MESSAGES.items():
            (self.maildir / ("cur" if ":" in name else "new") / name).write_bytes(content)
        for path in (self.user, *self.user.rglob("*")):
            os.chown(path, USER, USER if os.getuid() == 0 else os.getgid())
            path.chmod(0o700 if path.is_dir() else 0o600)
        self.secret("{PLAIN}" + WORD)
        home.control("pop3mechanisms", "plain", "scram-sha-256", "apop")
        home.control("listen", f"pop3 127.0.0.1:{self.port}")

    def secret(self, secret: str) -> None:
        """Jiro's line in control/pop3users."""
        gid = USER if os.getuid() == 0 else os.getgid()
        self.ekiden.control("pop3users", f"jiro:{secret}:{USER}:{gid}:{self.user}:./Maildir/")
        (self.ekiden.home / "control" / "pop3users").chmod(0o600)

    def with_certificate(self, certificate: Certificate) -> None:
        """STLS, and a second listener with TLS from the beginning."""
        (self.ekiden.home / "control" / "servercert.pem").write_bytes(certificate.both.read_bytes())
        self.ekiden.control("listen", f"pop3 127.0.0.1:{self.port}", f"pop3s 127.0.0.1:{self.tls_port}")

    def client(self) -> poplib.POP3:
        """Connected, not logged in."""
        return poplib.POP3("127.0.0.1", self.port, timeout=60)

    @contextmanager
    def session(self) -> Iterator[poplib.POP3]:
        """Logged in; quits at the end."""
        client = self.client()
        client.user("jiro")
        client.pass_(WORD)
        yield client
        client.quit()

    def files(self) -> list[str]:
        """The messages that there are."""
        return sorted(path.name for part in ("new", "cur") for path in (self.maildir / part).iterdir())


@pytest.fixture
def office(home: Ekiden) -> PostOffice:
    return PostOffice(home)


def test_a_session(office: PostOffice) -> None:
    office.ekiden.start()
    with office.session() as client:
        assert client.stat()[0] == 2
        assert b"\r\n".join(client.retr(1)[1]) == b"Subject: one\r\n\r\nbody\r\n.dot"
        before = client.uidl()[1]
        client.dele(1)
    assert office.files() == ["2.b.h:2,S"]
    with office.session() as client:
        assert [line.split()[1] for line in client.uidl()[1]] == [before[1].split()[1]]


def test_nothing_is_deleted_without_quit(office: PostOffice) -> None:
    office.ekiden.start()
    client = office.client()
    client.user("jiro")
    client.pass_(WORD)
    client.dele(1)
    client.close()
    wait_until(lambda: "0 removed" in office.ekiden.log(), "the session's end")
    assert len(office.files()) == 2


def test_an_mbox_has_one_session_at_a_time(office: PostOffice) -> None:
    """The next one may come as soon as the last has heard the answer to QUIT."""
    mbox = office.user / "mbox"
    mbox.write_bytes(b"From a@b Mon Nov 23 14:00:00 2026\nSubject: one\n\nbody\n\n")
    os.chown(mbox, USER, -1)
    users = office.ekiden.home / "control" / "pop3users"
    users.write_text(users.read_text().replace("./Maildir/", "./mbox"))
    office.ekiden.start()
    for _ in range(10):
        with office.session() as client:
            assert client.stat()[0] == 1
    with office.session():
        second = office.client()
        second.user("jiro")
        with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
            second.pass_(WORD)


def test_a_mailbox_that_is_replaced_is_seen(office: PostOffice) -> None:
    """By the process that has served the old one, or by the next, if that process can see nothing else any more."""
    office.ekiden.start()
    with office.session() as client:
        assert client.stat()[0] == 2
    office.maildir.rename(office.user / "old")
    for part in ("cur", "new", "tmp"):
        (office.maildir / part).mkdir(parents=True)
    for path in (office.maildir, *office.maildir.rglob("*")):
        os.chown(path, USER, -1)

    def is_empty() -> bool:
        try:
            with office.session() as client:
                return bool(client.stat()[0] == 0)
        except poplib.error_proto as refused:
            assert b"[SYS/TEMP]" in refused.args[0]
            return False

    wait_until(is_empty, "the new mailbox is there")


def test_names_with_one_uid_have_processes_of_their_own(office: PostOffice) -> None:
    """Each sees its mailbox, and the process of one cannot see the other's."""
    other = office.user / "other"
    for part in ("cur", "new", "tmp"):
        (other / part).mkdir(parents=True)
    for path in (other, *other.rglob("*")):
        os.chown(path, USER, -1)
    users = office.ekiden.home / "control" / "pop3users"
    line = users.read_text()
    users.write_text(line + line.replace("jiro:", "taro:", 1).replace("./Maildir/", "./other/"))
    office.ekiden.start()
    for name, count in (("jiro", 2), ("taro", 0), ("jiro", 2)):
        client = office.client()
        client.user(name)
        client.pass_(WORD)
        assert client.stat()[0] == count
        client.quit()


def test_apop(office: PostOffice) -> None:
    office.ekiden.start()
    client = office.client()
    client.apop("jiro", WORD)
    assert client.stat()[0] == 2
    client.quit()


def test_scram(office: PostOffice) -> None:
    """RFC 7677, computed here by RFC 5802's definitions."""
    office.ekiden.start()
    with socket.create_connection(("127.0.0.1", office.port), timeout=60) as client, client.makefile("rwb") as stream:
        stream.readline()
        bare = b"n=jiro,r=abcdef"
        said = ask(stream, b"AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,," + bare))
        first = base64.b64decode(said.partition(b" ")[2])
        fields = dict(part.split(b"=", 1) for part in first.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", WORD.encode(), base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        without_proof = b"c=biws,r=" + fields[b"r"]
        signed = b",".join((bare, first, without_proof))
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        said = ask(stream, base64.b64encode(without_proof + b",p=" + base64.b64encode(proof)))
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        assert base64.b64decode(said.partition(b" ")[2]) == b"v=" + base64.b64encode(server)
        assert ask(stream, b"").startswith(b"+OK")
        assert ask(stream, b"STAT").startswith(b"+OK 2 ")


def ask(stream: object, line: bytes) -> bytes:
    stream.write(line + b"\r\n")  # type: ignore[attr-defined]
    stream.flush()  # type: ignore[attr-defined]
    return stream.readline().rstrip(b"\r\n")  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("kind", ["argon2", "crypt", "checkpassword"])
def test_sources_of_passwords(office: PostOffice, kind: str) -> None:
    if kind == "argon2":
        import argon2

        office.secret(argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(WORD))
    elif kind == "crypt":
        office.secret(run(["openssl", "passwd", "-6", WORD]).stdout.strip())
    else:
        office.secret("!")
        gid = USER if os.getuid() == 0 else os.getgid()
        program = office.ekiden.home.parent / "checkpassword"
        become = f"os.setgid({gid}); os.setuid({USER});" if os.getuid() == 0 else ""
        program.write_text(
            "#!/usr/bin/python3\nimport os, sys\n"
            "name, password, _stamp, _end = os.read(3, 512).split(b'\\0')\n"
            f"if (name, password) != (b'taro', b'{WORD}'): sys.exit(1)\n"
            f"{become} os.chdir({str(office.user)!r}); os.environ['HOME'] = {str(office.user)!r}\n"
            "os.environ['USER'] = 'taro'\nos.execvp(sys.argv[1], sys.argv[1:])\n"
        )
        program.chmod(0o755)
        office.ekiden.control("pop3passwords", "file", f"checkpassword {program}")
        office.ekiden.control("pop3mailbox", "./Maildir/")
    office.ekiden.start()
    name = "taro" if kind == "checkpassword" else "jiro"
    client = office.client()
    client.user(name)
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        client.pass_("wrong")
    client.user(name)
    client.pass_(WORD)
    assert client.stat()[0] == 2
    client.quit()


def test_guessing_is_slowed_and_logged(office: PostOffice) -> None:
    office.ekiden.start()
    client = office.client()
    for _ in range(3):
        client.user("jiro")
        with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
            client.pass_("guess")
    client.close()
    refusals = re.compile(r"refuse: pop3: 127\.0\.0\.1: jiro: authentication failed")
    wait_until(lambda: len(refusals.findall(office.ekiden.log())) == 3, "three refusals in the log")


def test_tls(office: PostOffice, certificate: Certificate) -> None:
    office.with_certificate(certificate)
    office.ekiden.control("pop3plaintext", "never")
    office.ekiden.start()
    trust = ssl.create_default_context(cafile=str(certificate.certificate))
    client = office.client()
    with pytest.raises(poplib.error_proto):
        client.user("jiro")
    client.stls(trust)
    client.user("jiro")
    client.pass_(WORD)
    assert client.retr(2)[1] == [b"Subject: two", b"", b"second"]
    client.quit()
    secure = poplib.POP3_SSL("127.0.0.1", office.tls_port, timeout=60, context=trust)
    secure.user("jiro")
    secure.pass_(WORD)
    assert secure.stat()[0] == 2
    secure.quit()


def test_large_mail_under_tls(office: PostOffice, certificate: Certificate) -> None:
    """More than any buffer between the session and the client."""
    office.with_certificate(certificate)
    line = b"x" * 70 + b"\r\n"
    (office.maildir / "new" / "3.c.h").write_bytes(line * 100_000)
    os.chown(office.maildir / "new" / "3.c.h", USER, -1)
    office.ekiden.start()
    trust = ssl.create_default_context(cafile=str(certificate.certificate))
    secure = poplib.POP3_SSL("127.0.0.1", office.tls_port, timeout=60, context=trust)
    secure.user("jiro")
    secure.pass_(WORD)
    assert secure.retr(3)[1] == [line[:-2]] * 100_000
    secure.quit()


# Mail programs.


@pytest.mark.parametrize("secure", [False, True])
def test_curl(office: PostOffice, certificate: Certificate, secure: bool) -> None:
    office.with_certificate(certificate)
    office.ekiden.start()
    url = f"pop3s://localhost:{office.tls_port}/1" if secure else f"pop3://localhost:{office.port}/1"
    options = ["--cacert", certificate.certificate] if secure else []
    assert run(["curl", "-s", *options, "--user", f"jiro:{WORD}", url]).stdout == "Subject: one\n\nbody\n.dot\n"


@pytest.mark.parametrize("mode", ["plain", "stls", "pop3s"])
def test_fetchmail(office: PostOffice, certificate: Certificate, place: Path, mode: str) -> None:
    """Fetches everything, deletes it, and then finds nothing."""
    office.with_certificate(certificate)
    office.ekiden.start()
    port = office.tls_port if mode == "pop3s" else office.port
    tls = {"plain": "sslproto ''", "stls": "sslproto TLS1.2+", "pop3s": "ssl"}[mode]
    trust = f" sslcertck sslcertfile {certificate.certificate}" if mode != "plain" else ""
    (place / "fetched").mkdir()
    rc = place / "fetchmailrc"
    rc.write_text(
        f"poll localhost protocol pop3 port {port} user jiro password '{WORD}' {tls}{trust}\n"
        f"  mda 'cat > {place}/fetched/$$'\n"
    )
    rc.chmod(0o600)
    argv = ["fetchmail", "-f", rc, "--pidfile", place / "pid", "--idfile", place / "ids", "--invisible", "-a"]
    said = run([*argv, "-v", "-v"], check=False)
    assert said.returncode == 0, said.stdout
    bodies = sorted(path.read_text() for path in (place / "fetched").iterdir())
    assert [body.partition("\n\n")[2] for body in bodies] == ["body\n.dot\n", "second\n"]
    assert office.files() == []
    assert run(argv, check=False).returncode == 1  # no mail


def test_mpop(office: PostOffice, certificate: Certificate, place: Path) -> None:
    """Keeps the mail, remembers UIDs: the second time there is nothing new, although one has got other flags."""
    office.with_certificate(certificate)
    office.ekiden.start()
    inbox = place / "inbox"
    for part in ("cur", "new", "tmp"):
        (inbox / part).mkdir(parents=True)
    rc = place / "mpoprc"
    rc.write_text(
        f"account default\nhost localhost\nport {office.port}\nuser jiro\npassword {WORD}\nkeep on\ntls on\n"
        f"tls_starttls on\ntls_trust_file {certificate.certificate}\nauth scram-sha-256\n"
        f"delivery maildir {inbox}\nuidls_file {place}/uidls\n"
    )
    rc.chmod(0o600)
    run(["mpop", "-C", rc])
    fetched = sorted(path.read_text().partition("\n\n")[2] for path in (inbox / "new").iterdir())
    assert fetched == ["body\n.dot\n", "second\n"]
    (seen,) = (office.maildir / "cur").glob("1.a.h*")
    seen.rename(office.maildir / "cur" / "1.a.h:2,RS")
    run(["mpop", "-C", rc])
    assert len(list((inbox / "new").iterdir())) == 2
    assert len(office.files()) == 2


# Who does what.


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_processes_that_do_not_trust_each_other(office: PostOffice) -> None:
    """The one that talks with strangers is nobody; a session's is the user, for good."""
    office.ekiden.start()
    with office.session() as client:
        assert client.stat()[0] == 2
        processes = {pid: status(pid) for pid in office.ekiden.pids()}
        uids = {name: (uid, groups) for name, uid, groups in processes.values()}
        session = [pid for pid, (_name, uid, _groups) in processes.items() if uid == {str(USER)}]
        assert len(session) == 1
        assert processes[session[0]][2] <= {str(USER)}
        held = [os.readlink(f"/proc/{session[0]}/fd/{entry}") for entry in os.listdir(f"/proc/{session[0]}/fd")]
        assert not [name for name in held if "queue" in name or "control" in name]
        strangers = listeners(office.port)
        assert strangers
        assert all(status(pid)[1] == {str(NOBODY)} for pid in strangers), uids
    wait_until(lambda: "logged in" in office.ekiden.log(), "the login in the log")


def test_a_reload_keeps_sessions(office: PostOffice) -> None:
    office.ekiden.start()
    with office.session() as client:
        office.ekiden.reload()
        assert client.stat()[0] == 2
        with office.session() as other:
            assert other.stat()[0] == 2
    assert is_alive(office.ekiden.supervisor())


def test_silent_and_endless_clients(office: PostOffice) -> None:
    """They do not keep others from their mail, and an endless line ends its session."""
    office.ekiden.start()
    idle = [socket.create_connection(("127.0.0.1", office.port)) for _ in range(20)]
    for connection in idle[10:]:
        connection.sendall(b"USER ji")
    with socket.create_connection(("127.0.0.1", office.port), timeout=60) as endless:
        try:
            for _ in range(200):
                endless.sendall(b"x" * 10_000)
        except OSError:
            pass
        with office.session() as client:
            assert client.stat()[0] == 2
    for connection in idle:
        connection.close()


def status(pid: int) -> tuple[str, set[str], set[str]]:
    """A process's name, the user ids that it has, and its groups."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return fields["Name"].strip(), set(fields["Uid"].split()), set(fields["Groups"].split())


def listeners(port: int) -> list[int]:
    """The processes that hold the listening socket of that port, the supervisor and its like left out."""
    said = run(["ss", "-Hltnp", f"sport = :{port}"]).stdout
    pids = [int(found) for found in re.findall(r"pid=(\d+)", said)]
    return [pid for pid in pids if "pop3" in status(pid)[0]]
