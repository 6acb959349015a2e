"""The guide's part 3, and its hint for SGI: mail programs send through the wrapper, and time stamps need no TZ."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from tests.peers.machine import Machine, Syslog
from tests.peers.processes import program, wait_until

pytestmark = pytest.mark.slow

NINE_HOURS = 9 * 3600


def messages(machine: Machine, count: int) -> list[str]:
    """What is in ~jiro/Mailbox, once there are so many."""
    mailbox = machine.user / "Mailbox"
    parts: list[str] = []

    def complete() -> bool:
        text = mailbox.read_text() if mailbox.exists() else ""
        parts[:] = re.split("^From ", text, flags=re.MULTILINE)[1:]
        return len(parts) == count and text.endswith("\n\n")

    wait_until(complete, f"{count} messages in ~/Mailbox")
    return parts


def replace_sendmail(machine: Machine) -> None:
    """``ln -s .../bin/sendmail /usr/lib/sendmail``, where Debian has a link to /usr/sbin/sendmail."""
    shadow, kept = machine.place / "sbin", machine.place / "sbin.kept"
    shadow.mkdir()
    kept.mkdir()
    for path in Path("/usr/sbin").iterdir():
        (shadow / path.name).symlink_to(kept / path.name)
    for source, target in (("/usr/sbin", kept), (shadow, "/usr/sbin")):
        assert machine.run("mount", "--bind", source, target).returncode == 0
    (shadow / "sendmail").unlink()
    (shadow / "sendmail").symlink_to(machine.home / "bin" / "sendmail")
    assert machine.run("readlink", "-f", "/usr/lib/sendmail").stdout.decode().strip().endswith("/qmail/bin/sendmail")


def test_w20_mail_programs_send_through_the_wrapper(machine: Machine) -> None:
    replace_sendmail(machine)
    machine.boot()
    environment = {"HOME": str(machine.place), "USER": "root", "LOGNAME": "root", "LC_ALL": "C.UTF-8"}
    settings = "set copy=no hostname=indy2.nix.co.jj"
    sent = {
        "by hand": ("/usr/lib/sendmail", "-t"),
        "by Mail": (program("s-nail"), "-n", "-v", "-s", "by Mail", "jiro"),
        "by mutt": (program("mutt"), "-n", "-F", "/dev/null", "-e", settings, "-s", "by mutt", "jiro"),
    }
    for number, (subject, command) in enumerate(sent.items(), 1):
        header = b"To: jiro\nSubject: by hand\n\n" if subject == "by hand" else b""
        done = machine.run(*command, data=header + b"hello\n", **environment)
        assert done.returncode == 0, done.stderr
        message = messages(machine, number)[-1]
        assert f"\nSubject: {subject}\n" in message
        assert "\nDelivered-To: jiro@indy2.nix.co.jj\n" in message
        assert re.search(r"\nReceived: \(qmail \d+ invoked by uid 0\);", message)
        assert message.endswith("\n\nhello\n\n")


def test_w28_time_stamps_are_local_without_tz(machine: Machine, syslog: Syslog) -> None:
    """Syslog's stamp and the mbox separator are Japan's time; what travels is UTC."""
    zone = machine.run("mount", "--bind", "/usr/share/zoneinfo/Asia/Tokyo", "/etc/localtime")
    assert zone.returncode == 0, zone.stderr
    before = time.time()
    machine.boot()
    assert machine.run("qmail-inject", data=b"to: jiro\n", USER="root").returncode == 0
    entries = syslog.wait_for("end msg 1")
    (message,) = messages(machine, 1)
    after = time.time()

    def happened(text: str, form: str, offset: int = 0) -> bool:
        """Whether it is a time between before and after."""
        seconds = range(int(before) + offset, int(after) + offset + 1)
        return text in [time.strftime(form, time.gmtime(second)) for second in seconds]

    for entry in entries:
        stamp, _, rest = entry.removeprefix("<22>").partition(" qmail: ")
        assert happened(stamp.replace("  ", " 0"), "%b %d %H:%M:%S", NINE_HOURS), entry
        assert before - 1 < float(rest.split()[0]) < after + 1
    separator = message.partition("\n")[0].partition(" ")[2]
    assert happened(separator.replace("  ", " 0"), "%a %b %d %H:%M:%S %Y", NINE_HOURS), separator
    (date,) = re.findall(r"^Date: (.*) -0000$", message, re.MULTILINE)
    assert happened(date.zfill(20), "%d %b %Y %H:%M:%S"), date
