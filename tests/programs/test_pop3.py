"""The POP3 chain as qmail's: tcpserver, qmail-popup, checkpassword and qmail-pop3d, each with others in its place."""

from __future__ import annotations

import hashlib
import os
import poplib
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.peers.processes import accepts, end, free_port, program, run, wait_until

from .conftest import NOBODY, Site

MESSAGES = {"1.a.h": b"Subject: one\n\nbody\n.dot\n", "2.b.h": b"Subject: two\r\n\r\nno end"}

CREDENTIALS = """#!{python}
import os, sys
data = os.read(3, 600)
open({place!r} + "/credentials", "wb").write(data)
sys.exit({code}) if {code} else os.execvp(sys.argv[1], sys.argv[1:])
"""


def nobody_can_run_python() -> bool:
    """Whether a user other than us may read the interpreter and our modules: not if they are in a private home."""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", "import ekiden.cli"], user=NOBODY, group=NOBODY, extra_groups=[]
        )
    except PermissionError:
        return False
    return tried.returncode == 0


ROOT = os.getuid() == 0
CHANGES = ROOT and nobody_can_run_python()
"""Whether checkpassword can become somebody else in these tests; if not, it is that user from the beginning."""
UID, GID = (NOBODY, NOBODY) if CHANGES else (4242, 4242) if ROOT else (os.getuid(), os.getgid())
AS_USER = ["unshare", "--user", f"--map-user={UID}", f"--map-group={GID}", "--"] if ROOT and not CHANGES else []


@pytest.fixture
def user(site: Site) -> Path:
    """The user jiro with the password ``secret word`` and a Maildir."""
    home = site.place / "jiro"
    for part in ("new", "cur", "tmp"):
        (home / "Maildir" / part).mkdir(parents=True)
    for name, content in MESSAGES.items():
        (home / "Maildir" / "new" / name).write_bytes(content)
    for path in (home, *home.rglob("*")) if CHANGES else ():
        os.chown(path, UID, GID)
    site.control("pop3users", f"# users\njiro:{{PLAIN}}secret word:{UID}:{GID}:{home}\n")
    return home


@contextmanager
def served(site: Site, *command: str | Path) -> Iterator[int]:
    """tcpserver running this for every client; the port."""
    port = free_port()
    arguments = [*AS_USER, program("tcpserver"), "-HRl0", "127.0.0.1", str(port), *map(str, command)]
    server = subprocess.Popen(arguments, env=site.environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: accepts("127.0.0.1", port), "tcpserver accepts")
        yield port
    finally:
        end(server)


def chain(site: Site) -> list[str | Path]:
    return [
        site.home / "bin" / "qmail-popup",
        "pop.example",
        site.home / "bin" / "checkpassword",
        site.home / "bin" / "qmail-pop3d",
        "Maildir",
    ]


def test_the_whole_chain(site: Site, user: Path) -> None:
    with served(site, *chain(site)) as port:
        client = poplib.POP3("127.0.0.1", port, timeout=60)
        assert re.fullmatch(rb"\+OK POP3 <\d+\.\d+@pop\.example>", client.getwelcome())
        client.user("jiro")
        client.pass_("secret word")
        assert client.stat()[0] == 2
        assert client.uidl()[1] == [b"1 1.a.h", b"2 2.b.h"]
        # qmail-pop3d(8): an extra blank line.
        lines = client.retr(1)[1]
        assert lines == [b"Subject: one", b"", b"body", b".dot", b""]
        assert client.list(1).split()[2] == str(sum(len(line) + 2 for line in lines)).encode()
        assert client.top(2, 0)[1] == [b"Subject: two", b"", b""]
        client.dele(1)
        client.quit()
    assert {str(path.relative_to(user / "Maildir")) for path in user.rglob("*.h*")} == {"cur/2.b.h:2,"}


def test_apop_and_everything_said_at_once(site: Site, user: Path) -> None:
    with served(site, *chain(site)) as port:
        client = poplib.POP3("127.0.0.1", port, timeout=60)
        client.apop("jiro", "secret word")
        assert client.stat()[0] == 2
        client.quit()
        client = poplib.POP3("127.0.0.1", port, timeout=60)
        client.sock.sendall(b"USER jiro\r\nPASS secret word\r\nSTAT\r\nNOOP\r\nQUIT\r\n")
        said = client.file.read().split(b"\r\n")
        assert [line[:3] for line in said] == [b"+OK"] * 5 + [b""]


@pytest.mark.parametrize(("user_name", "password"), [("jiro", "wrong"), ("nobody-of-ours", "x"), ("root", "x")])
def test_wrong_passwords(site: Site, user: Path, user_name: str, password: str) -> None:
    with served(site, *chain(site)) as port:
        client = poplib.POP3("127.0.0.1", port, timeout=60)
        client.user(user_name)
        with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\] authorization failed"):
            client.pass_(password)
        assert client.file.read() == b""


@pytest.mark.parametrize(
    ("said", "given"),
    [
        (b"USER jiro\r\nPASS a b \r\n", [b"jiro", b"a b "]),
        (b"AUTH PLAIN AGppcm8AYQ==\r\n", [b"jiro", b"a"]),
        (b"APOP jiro 0123456789ABCDEF0123456789abcdef\n", [b"jiro", b"0123456789abcdef0123456789abcdef"]),
    ],
)
@pytest.mark.parametrize(
    ("code", "answer"), [(0, b""), (1, b"-ERR [AUTH]"), (2, b"-ERR [AUTH]"), (111, b"-ERR [SYS/TEMP]")]
)
def test_popup_with_another_checkpassword(
    site: Site, said: bytes, given: list[bytes], code: int, answer: bytes
) -> None:
    script = site.place / "check"
    script.write_text(CREDENTIALS.format(python=sys.executable, place=str(site.place), code=code))
    script.chmod(0o755)
    done = site.run("qmail-popup", "h", str(script), "sh", "-c", "printf '+OK mine\\r\\n'; cat", data=said + b"rest")
    fields = (site.place / "credentials").read_bytes().split(b"\0")
    assert fields[:2] == given and fields[3:] == [b""]
    assert fields[2] == re.search(rb"<.*>", done.stdout)[0]  # type: ignore[index]
    last = done.stdout.split(b"\r\n")[-2]
    if code:
        assert last.startswith(answer)
    else:
        assert done.stdout.endswith(b"+OK mine\r\nrest"), "what follows the password is the program's"
    assert done.returncode == 1


def test_popup_tells_what_went_wrong(site: Site) -> None:
    said = b"USER a\r\nPASS b\r\n"
    assert b"-ERR usage" in site.run("qmail-popup", "h").stdout
    assert b"-ERR [SYS/TEMP] unable" in site.run("qmail-popup", "h", "/no/such/program", data=said).stdout
    assert b"-ERR [SYS/TEMP] aack" in site.run("qmail-popup", "h", "sh", "-c", "kill -9 $$", data=said).stdout
    assert site.run("qmail-popup", "h", "true", data=b"USER a\r\nQUIT\r\n").stdout.endswith(b"+OK\r\n+OK\r\n")
    assert b"log in first" in site.run("qmail-popup", "h", "true", data=b"STAT\r\n").stdout


def check(site: Site, credentials: bytes, *command: str) -> subprocess.CompletedProcess[bytes]:
    reading, writing = os.pipe()
    os.write(writing, credentials)
    os.close(writing)
    try:
        script = f'exec "$@" 3</dev/fd/{reading}'
        return subprocess.run(
            [*AS_USER, "sh", "-c", script, "sh", site.home / "bin" / "checkpassword", *command],
            pass_fds=[reading],
            capture_output=True,
            env={**site.environment, "EXTRA": "kept"},
            timeout=60,
        )
    finally:
        os.close(reading)


def test_checkpassword_becomes_the_user(site: Site, user: Path) -> None:
    tell = 'echo "$(id -u) $(id -g) $(pwd) $USER $HOME $SHELL $EXTRA"; exit 7'
    done = check(site, b"jiro\0secret word\0stamp\0", "sh", "-c", tell)
    assert done.stdout.decode().strip() == f"{UID} {GID} {user} jiro {user} /bin/sh kept"
    assert done.returncode == 7
    digest = hashlib.md5(b"<1@x>secret word").hexdigest().encode()
    assert check(site, b"jiro\0" + digest + b"\0<1@x>\0", "true").returncode == 0
    assert check(site, b"jiro\0" + digest + b"\0<2@x>\0", "true").returncode == 1


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        (b"jiro\0wrong\0s\0", 1),
        (b"jiro\0\0s\0", 1),
        (b"nobody-of-ours\0x\0s\0", 1),
        (b"root\0x\0s\0", 1),
        (b"", 2),
        (b"jiro", 2),
        (b"jiro\0secret word", 2),
        (b"\0x\0s\0", 2),
        (b"jiro\0" + b"x" * 600 + b"\0s\0", 2),
    ],
)
def test_checkpassword_refuses(site: Site, user: Path, credentials: bytes, code: int) -> None:
    done = check(site, credentials, "sh", "-c", "echo here")
    assert (done.returncode, done.stdout) == (code, b"")


def test_checkpassword_misused(site: Site, user: Path) -> None:
    assert check(site, b"jiro\0secret word\0s\0").returncode == 2
    assert check(site, b"jiro\0secret word\0s\0", "/no/such/program").returncode == 111
    without = subprocess.run([site.home / "bin" / "checkpassword", "true"], env=site.environment, timeout=60)
    assert without.returncode == 2


def pop3d(site: Site, user: Path, *argv: str) -> bytes:
    as_user = ["setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups"] if CHANGES else AS_USER
    command = [*as_user, site.home / "bin" / "qmail-pop3d", *argv]
    said = b"STAT\r\nNOOP\r\nQUIT\r\n"
    return subprocess.run(command, input=said, capture_output=True, cwd=user, timeout=60, check=True).stdout


def test_pop3d_alone(site: Site, user: Path) -> None:
    assert pop3d(site, user, "nothing/").startswith(b"-ERR [SYS/PERM] ")
    assert pop3d(site, user, "nothing/Maildir").startswith(b"-ERR [SYS/PERM] ")
    assert pop3d(site, user).startswith(b"-ERR [SYS/PERM] usage")
    assert pop3d(site, user, "no-spool") == b"+OK\r\n+OK 0 0\r\n+OK\r\n+OK\r\n"
    assert pop3d(site, user, "Maildir") == b"+OK\r\n+OK 2 56\r\n+OK\r\n+OK\r\n"


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_pop3d_does_not_work_as_root(site: Site, user: Path) -> None:
    done = site.run("qmail-pop3d", "Maildir", data=b"STAT\r\n", cwd=user)
    assert (done.returncode, done.stdout) == (1, b"") and b"uid 0" in done.stderr


@pytest.mark.slow
def test_real_clients(site: Site, user: Path) -> None:
    """mpop and fetchmail get everything byte for byte; curl lists it."""
    with served(site, *chain(site)) as port:
        url = f"pop3://127.0.0.1:{port}/"
        assert "1 1.a.h" in run([program("curl"), "-sS", "-u", "jiro:secret word", "-X", "UIDL", url]).stdout
        got = site.place / "got"
        for part in ("new", "cur", "tmp"):
            (got / part).mkdir(parents=True)
        config = site.place / "mpoprc"
        config.write_text(
            f"defaults\naccount default\nhost 127.0.0.1\nport {port}\nuser jiro\npassword secret word\n"
            f"auth user\ntls off\nkeep on\nreceived_header off\nuidls_file {site.place}/uidls\n"
            f"delivery maildir {got}\n"
        )
        config.chmod(0o600)
        run([program("mpop"), "-q", "-C", config])
        fetched = sorted(path.read_bytes() for path in (got / "new").iterdir())
        assert fetched == [b"Subject: one\n\nbody\n.dot\n\n", b"Subject: two\n\nno end\n\n"]
        settings = site.place / "fetchmailrc"
        settings.write_text(
            f"poll 127.0.0.1 protocol pop3 port {port} auth password user jiro password 'secret word' "
            f"mda 'cat >> {site.place}/fetched' fetchall\n"
        )
        settings.chmod(0o600)
        run([program("fetchmail"), "-s", "--nodetach", "-f", settings, "--sslproto", "", "--invisible"])
        text = (site.place / "fetched").read_text()
        assert "Subject: one\n\nbody\n.dot\n" in text and "Subject: two\n" in text
        assert list((user / "Maildir" / "new").iterdir()) == []
