"""``unshare --mount --net --pid --fork --mount-proc python -m tests.migration.record BUILD``: record the original.

Debian packages no qmail, so that what qmail's own programs make and take is recorded here once, into ``original/``,
and compared in ``test_original.py``. BUILD is a source directory of notqmail 1.09 built with ``/mnt/qmail`` in
conf-qmail; ``make setup`` is run in it. As root, in namespaces of its own: /mnt, /etc/passwd and /etc/group are
hidden from the rest of the machine.

- ``queue.tar.gz``: a queue directory as qmail-queue and qmail-send left it, with messages in every state, and
  ``qread.txt``, what qmail-qread said of it.
- ``exported.json``: the files that ``ekiden queue export`` wrote into the fresh queue, with owners and modes; what
  the sink and the Maildir got when qmail-send had run on them; and qmail-send's log.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from tests.migration.test_qmail_export import export, fill
from tests.peers.sinks import Sink

ORIGINAL = Path(__file__).parent / "original"
QMAIL = Path("/mnt/qmail")
GROUPS = {"qmail": 2107, "nofiles": 2108, "jiro": 4100}
USERS = {
    "alias": 2108,
    "qmaild": 2108,
    "qmaill": 2108,
    "qmailp": 2108,
    "qmailq": 2107,
    "qmailr": 2107,
    "qmails": 2107,
}


def make_machine(build: Path, place: Path) -> None:
    """Users, an empty /mnt, the original installed."""
    users = "".join(f"{name}:x:{7790 + at}:{gid}::{QMAIL}:/bin/sh\n" for at, (name, gid) in enumerate(USERS.items()))
    users = (
        users.replace(f"7790:2108::{QMAIL}:", f"7790:2108::{QMAIL}/alias:") + "jiro:x:4100:4100::/mnt/jiro:/bin/sh\n"
    )
    groups = "".join(f"{name}:x:{gid}:\n" for name, gid in GROUPS.items())
    for name, text in (("passwd", users), ("group", groups)):
        (place / name).write_text(Path("/etc", name).read_text() + text)
        subprocess.run(["mount", "--bind", place / name, f"/etc/{name}"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["make", "-s", "setup"], cwd=build, check=True, stdout=subprocess.DEVNULL)
    home = Path("/mnt/jiro")
    for name in ("new", "cur", "tmp"):
        (home / "Maildir" / name).mkdir(parents=True)
    (home / ".qmail-slow").write_text("|exit 111\n")
    (home / ".qmail-no").write_text("|echo no such thing; exit 100\n")
    subprocess.run(["chown", "-R", "jiro:jiro", home], check=True)


def control(**files: str) -> None:
    for name, text in files.items():
        (QMAIL / "control" / name).write_text(text + "\n")


def inject(sender: bytes, recipients: list[bytes], message: bytes) -> None:
    """By the original qmail-queue."""
    envelope = b"F" + sender + b"\0" + b"".join(b"T" + each + b"\0" for each in recipients) + b"\0"
    (reading, writing), (read_envelope, write_envelope) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(reading, 0)
            os.dup2(read_envelope, 1)
            os.close(writing)
            os.close(write_envelope)
            os.execv(QMAIL / "bin" / "qmail-queue", ["qmail-queue"])
        finally:
            os._exit(99)
    os.close(reading)
    os.close(read_envelope)
    for descriptor, data in ((writing, message), (write_envelope, envelope)):
        with open(descriptor, "wb") as file:
            file.write(data)
    assert os.waitpid(child, 0)[1] == 0


def send(seconds: float, done: str) -> str:
    """Run qmail-start until its log has matched ``done``; the log."""
    log = Path("/mnt/log")
    environment = {"PATH": f"{QMAIL}/bin:/usr/bin:/bin"}
    with log.open("wb") as output:
        started = subprocess.Popen(
            [QMAIL / "bin" / "qmail-start", "./Maildir/"], stdout=output, env=environment, start_new_session=True
        )
        deadline = time.monotonic() + seconds
        while not re.search(done, log.read_text(), re.DOTALL):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        started.send_signal(signal.SIGTERM)
        started.wait()
    return log.read_text()


def record_queue() -> None:
    """Messages in every state: done in part, bouncing, not yet looked at, and one that never was accepted."""
    control(me="me.example", locals="me.example", smtproutes=":127.0.0.1:1")
    inject(
        b"s@far.example", [b"a@far.example", b"jiro-slow@me.example", b"jiro@me.example"], b"Subject: one\n\nbody\n"
    )
    inject(b"", [b"b@far.example"], b"Subject: \xff\xfe\n\n" + b"x" * 5000 + b"\nno end of line")
    inject(b"s-@far.example-@[]", [b"jiro-no@me.example", b"c@far.example"], b"Subject: verp\n\n.\n..\n")
    send(30, "status: local 0/10 remote 0/20\n.*(deferral.*){4}status: local 0/10 remote 0/20\n$")
    inject(b"new@far.example", [b"jiro@me.example", b"d@far.example"], b"Subject: not looked at\n\n")
    cut_off = subprocess.Popen([QMAIL / "bin" / "qmail-queue"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert cut_off.stdin is not None
    cut_off.stdin.write(b"Subject: never accepted\n")
    cut_off.stdin.flush()
    time.sleep(1)
    cut_off.kill()
    cut_off.wait()
    (ORIGINAL / "qread.txt").write_bytes(subprocess.run([QMAIL / "bin" / "qmail-qread"], capture_output=True).stdout)
    with tarfile.open(ORIGINAL / "queue.tar.gz", "w:gz") as archive:
        archive.add(QMAIL / "queue", "queue")


def record_export(place: Path) -> None:
    """What we export, and what qmail-send makes of it."""
    subprocess.run("rm -rf queue /mnt/jiro/Maildir/new/*", shell=True, cwd=QMAIL, check=True)
    subprocess.run(["make", "-s", "setup"], cwd=sys.argv[1], check=True, stdout=subprocess.DEVNULL)
    home = place / "home"
    for name in ("control", "queue"):
        (home / name).mkdir(parents=True)
    (home / "control" / "me").write_text("me.example\n")
    fill(home)
    export(home, QMAIL / "queue")
    files = listing(QMAIL / "queue")
    sink = Sink(place / "record")
    sink.start()
    control(smtproutes=f":127.0.0.1:{sink.port}")
    log = send(30, "(end msg.*){3}")
    sink.stop()
    got = sorted([each.sender, *each.to, each.content.decode("latin-1")] for each in sink.received())
    maildir = sorted(path.read_text("latin-1") for path in Path("/mnt/jiro/Maildir/new").iterdir())
    left = sorted(
        str(path.relative_to(QMAIL))
        for part in ("mess", "info", "local", "remote", "todo", "bounce")
        for path in (QMAIL / "queue" / part).rglob("*")
        if path.is_file()
    )
    recorded = {"files": files, "sink": got, "maildir": maildir, "left": left, "log": log.splitlines()}
    (ORIGINAL / "exported.json").write_text(json.dumps(recorded, indent=1) + "\n")


def listing(queue: Path) -> list[list[str]]:
    """Each numbered file: its directory, owner, group and mode, and its octets; numbers are as good as any other."""
    found = []
    for path in queue.rglob("*"):
        if path.is_file() and path.name.isdigit():
            status = path.stat()
            part = path.relative_to(queue).parts[0]
            kept = f"{status.st_uid} {status.st_gid} {status.st_mode & 0o7777:o}"
            found.append([part, kept, path.read_bytes().decode("latin-1")])
    return sorted(found)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        ORIGINAL.mkdir(exist_ok=True)
        make_machine(Path(sys.argv[1]), Path(temporary))
        record_queue()
        record_export(Path(temporary))
