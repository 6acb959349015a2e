"""Programs that send mail through sendmail, the real ones: what they hand over arrives as they meant it.

cron is here with the call that Debian's makes; the daemon itself is in ``walkthrough/test_cron.py``.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence

from tests.peers.processes import program
from tests.programs.conftest import Site

HOST = b"@indy2.nix.co.jj"
JIRO = b"jiro" + HOST


def run(site: Site, command: Sequence[str], data: bytes = b"", **environment: str) -> None:
    """Run somebody else's mail program; it must not complain."""
    done = subprocess.run(
        command,
        input=data,
        capture_output=True,
        env={**site.environment, "LC_ALL": "C.UTF-8", "EMAIL": "", **environment},
        cwd=site.place,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def sendmail(site: Site) -> str:
    return str(site.home / "bin" / "sendmail")


def field(site: Site, name: bytes) -> bytes:
    """The value of the one field of that name."""
    header = site.message.partition(b"\n\n")[0]
    values = [line.partition(b":")[2].strip() for line in header.split(b"\n") if line.lower().startswith(name + b":")]
    assert len(values) == 1, site.message
    return values[0]


def body(site: Site) -> bytes:
    return site.message.partition(b"\n\n")[2]


def test_mutt(recorded: Site) -> None:
    (recorded.place / "note.txt").write_text("attached\n")
    settings = f'set sendmail="{sendmail(recorded)} -oem -oi" hostname=indy2.nix.co.jj copy=no'
    command = [program("mutt"), "-n", "-F", os.devnull, "-e", settings, "-s", "Grüße", "-c", "ann@x.example"]
    run(recorded, [*command, "-a", "note.txt", "--", "bob"], b"Hi,\n.\nFrom me\n")
    assert recorded.envelope == (JIRO, [b"bob" + HOST, b"ann@x.example"])
    assert field(recorded, b"to") == b"bob" + HOST
    assert field(recorded, b"cc") == b"ann@x.example"
    assert field(recorded, b"subject").startswith(b"=?")
    assert b"Hi,\n.\nFrom me\n" in body(recorded) and b"\nattached\n" in body(recorded)


def test_mutt_with_a_sender_and_a_blind_copy(recorded: Site) -> None:
    settings = (
        f'set sendmail="{sendmail(recorded)} -oem -oi" from=me@y.example use_envelope_from=yes realname="" copy=no'
    )
    command = [program("mutt"), "-n", "-F", os.devnull, "-e", settings, "-s", "x", "-b", "blind@x.example", "--"]
    run(recorded, [*command, "bob@x.example"], b"hi\n")
    assert recorded.envelope == (b"me@y.example", [b"bob@x.example", b"blind@x.example"])
    assert b"blind" not in recorded.message
    assert field(recorded, b"from") == b"me@y.example"


def test_s_nail(recorded: Site) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name  # It does not believe in another.
    command = [program("s-nail"), "-n", "-Sv15-compat", f"-Smta={sendmail(recorded)}", "-s", "Report", "-c", "ann"]
    run(recorded, [*command, "-b", "blind", "bob@x.example"], "naïve\n.\nend\n".encode(), USER=user)
    sender, recipients = recorded.envelope
    assert sender == user.encode() + HOST
    assert sorted(recipients) == [b"ann" + HOST, b"blind" + HOST, b"bob@x.example"]
    assert b"blind" not in recorded.message
    assert field(recorded, b"subject") == b"Report"


def test_perls_mail_send(recorded: Site) -> None:
    code = """
    use Mail::Send;
    my $message = Mail::Send->new(Subject => "From Perl", To => "bob\\@x.example");
    $message->cc("ann");
    my $file = $message->open("sendmail");
    print $file "one\\n.\\ntwo\\n";
    $file->close or die;
    """
    run(recorded, [program("perl"), "-e", code], PERL_MAILERS=f"sendmail:{sendmail(recorded)}")
    sender, recipients = recorded.envelope
    assert (sender, sorted(recipients)) == (JIRO, [b"ann" + HOST, b"bob@x.example"])
    assert field(recorded, b"subject") == b"From Perl"
    assert body(recorded) == b"one\n.\ntwo\n"


def test_a_pipe_from_perl(recorded: Site) -> None:
    code = f"""
    open(my $mail, "|-", "{sendmail(recorded)} -t -oi -f bounces\\@y.example") or die;
    print $mail "From: web\\@y.example\\nTo: bob\\@x.example\\nBcc: blind\\@x.example\\nSubject: form\\n\\ntext\\n";
    close($mail) or die;
    """
    run(recorded, [program("perl"), "-e", code])
    assert recorded.envelope == (b"bounces@y.example", [b"bob@x.example", b"blind@x.example"])
    assert field(recorded, b"from") == b"web@y.example"
    assert b"blind" not in recorded.message


def test_php(recorded: Site) -> None:
    code = r"""
    $header = "From: Web <web@y.example>\r\nCc: ann@x.example";
    mail("bob@x.example", "Grüße", "one\r\ntwo\n.\nthree", $header, "-fb@y.example") or exit(1);
    """
    run(recorded, [program("php"), "-n", "-d", f"sendmail_path={sendmail(recorded)} -t -i", "-r", code])
    assert recorded.envelope == (b"b@y.example", [b"bob@x.example", b"ann@x.example"])
    assert field(recorded, b"from") == b"Web <web@y.example>"
    assert field(recorded, b"cc") == b"ann@x.example"
    assert body(recorded).rstrip(b"\n").replace(b"\r\n", b"\n") == b"one\ntwo\n.\nthree"


def test_crons_call(recorded: Site) -> None:
    data = (
        b"From: root (Cron Daemon)\nTo: jiro\nSubject: Cron <jiro@indy2> date\nMIME-Version: 1.0\n"
        b"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nX-Cron-Env: <HOME=/home/jiro>\n\n"
        b".\noutput\n"
    )
    done = recorded.run("sendmail", "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "jiro", data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert recorded.envelope == (JIRO, [JIRO])
    assert field(recorded, b"from") == b"root" + HOST + b" (Cron Daemon)"
    assert body(recorded) == b".\noutput\n"
