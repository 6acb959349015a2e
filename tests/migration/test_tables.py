"""Each thing that sendmail's configuration can say, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.migration.finding import Kind
from ekiden.migration.hosts import relay_key
from ekiden.migration.macros import calls
from ekiden.migration.options import seconds
from ekiden.migration.reading import Reading
from ekiden.policy.ruletext import parse_rules

Read = Callable[..., Reading]

ALWAYS = {"control/locals", "control/rcpthosts", "control/tcp.smtp"}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """``read(access="...", sendmail_mc="...")``: a directory with these files; files can be given as a dict too."""

    def make(files: dict[str, str] | None = None, **named: str) -> Reading:
        directory = tmp_path / "mail"
        directory.mkdir()
        for name, text in {**(files or {}), **named}.items():
            (directory / name.replace("_", ".")).write_text(text)
        return Reading(directory, tmp_path / "home", "me.example", lambda name: name == "account")

    return make


def left(reading: Reading) -> list[tuple[int, str]]:
    """Line and text of what was left."""
    return [(found.place.line, found.text) for found in reading.report.findings if found.kind is Kind.LEFT]


def test_nothing_at_all_is_a_host_that_is_no_relay(read: Read) -> None:
    files = read().plan.files
    assert files.keys() == ALWAYS
    assert files["control/rcpthosts"] == files["control/locals"] == ["localhost", "me.example"]
    assert files["control/tcp.smtp"] == ['127.:allow,RELAYCLIENT=""', '::1:allow,RELAYCLIENT=""', ":allow"]


def test_local_host_names(read: Read) -> None:
    reading = read({"local-host-names": "# ours\nNix.example\n\nb.nix.example # too\n[192.0.2.1]\n-x-\n"})
    assert reading.plan.files["control/locals"] == ["b.nix.example", "localhost", "me.example", "nix.example"]
    assert reading.plan.files["control/rcpthosts"] == reading.plan.files["control/locals"]
    assert left(reading) == [(6, "'-x-' is not a host name")]


def test_relay_domains(read: Read) -> None:
    reading = read({"relay-domains": "friend.example\n192.168.7\n10.1.2.3\nIPv6:2001:db8:1\n.sub.example\n300.1\n"})
    assert reading.plan.files["control/rcpthosts"][2:] == ["friend.example", ".friend.example", ".sub.example"]
    assert reading.plan.files["control/tcp.smtp"][:3] == [
        '192.168.7.:allow,RELAYCLIENT=""',
        '10.1.2.3:allow,RELAYCLIENT=""',
        '2001:db8:1::/48:allow,RELAYCLIENT=""',
    ]
    assert len(left(reading)) == 1


def test_relay_hosts_only_takes_no_subdomains(read: Read) -> None:
    reading = read({"relay-domains": "friend.example\n", "sendmail.mc": "FEATURE(`relay_hosts_only')dnl\n"})
    assert reading.plan.files["control/rcpthosts"][2:] == ["friend.example"]


@pytest.mark.parametrize(
    ("row", "file", "lines"),
    [
        ("Connect:192.168.3\tRELAY", "tcp.smtp", ['192.168.3.:allow,RELAYCLIENT=""']),
        ("192.168.3.4 RELAY", "tcp.smtp", ['192.168.3.4:allow,RELAYCLIENT=""']),
        ("IPv6:2001:db8::7 REJECT", "tcp.smtp", ["2001:db8::7:deny"]),
        ("Connect:10.9.8.7 550 no", "tcp.smtp", ["10.9.8.7:deny"]),
        ("172.16 OK", "tcp.smtp", ["172.16.:allow"]),
        ("From:Spam@evil.example REJECT", "badmailfrom", ["spam@evil.example"]),
        ("evil.example ERROR:5.7.1:550 no", "badmailfrom", ["@evil.example"]),
        ("spam@evil.example DISCARD", "badmailfrom", ["spam@evil.example"]),
        ("To:old@nix.example REJECT", "badrcptto", ["old@nix.example"]),
        ("To:gone.example REJECT", "badrcptto", ["@gone.example"]),
        ("To:nobody@ REJECT", "badrcptto", ["nobody@localhost", "nobody@me.example"]),
        ("To:backup.example RELAY", "rcpthosts", ["localhost", "me.example", "backup.example", ".backup.example"]),
        ("friend.example RELAY", "rcpthosts", ["localhost", "me.example", "friend.example", ".friend.example"]),
        ("ClientConn: 7", "connectionsperclient", ["7"]),
    ],
)
def test_access(read: Read, row: str, file: str, lines: list[str]) -> None:
    reading = read(access=f"# a comment\n{row}\n")
    wanted = reading.plan.files[f"control/{file}"]
    assert wanted[: len(lines)] == lines
    assert left(reading) == []
    assert [str(found.place).rpartition("/")[2] for found in reading.report.findings] == ["access:2"]
    assert reading.plan.files.keys() <= ALWAYS | {f"control/{file}"}


@pytest.mark.parametrize(
    "row",
    [
        "Connect:bad.example REJECT",
        "From:user@ REJECT",
        "From:good.example OK",
        "From:good.example RELAY",
        "To:user@far.example RELAY",
        "Spam:x FRIEND",
        "AuthInfo:h password",
        "ClientConn:10.0.0.1 3",
        "Strange:x y",
        "Connect:10.0.0.1 PERHAPS",
        "novalue",
    ],
)
def test_access_that_is_left_is_named(read: Read, row: str) -> None:
    reading = read(access=f"{row}\n")
    assert [line for line, _text in left(reading)] == [1]
    assert reading.plan.files.keys() == ALWAYS


def test_untagged_rows_count_for_recipients_only_with_the_feature(read: Read) -> None:
    reading = read(
        access="bad@x.example REJECT\n", sendmail_mc="FEATURE(`blocklist_recipients')\nFEATURE(`access_db')\n"
    )
    assert reading.plan.files["control/badrcptto"] == ["bad@x.example"]


VIRTUAL = {"local-host-names": "mixed.example\n", "sendmail.mc": "VIRTUSER_DOMAIN(`virt.example')dnl\n"}


@pytest.mark.parametrize(
    ("row", "name", "command"),
    [
        ("info@virt.example bob", "virt:example-info", "&bob@me.example"),
        ("a.b@virt.example\tx@far.example", "virt:example-a:b", "&x@far.example"),
        ("@virt.example bob", "virt:example-default", "&bob@me.example"),
        ("@virt.example %1@far.example", "virt:example-default", '|forward "$DEFAULT"@far.example'),
        (
            "@virt.example error:nouser 550 No such user",
            "virt:example-default",
            "|bouncesaying 'No such user (#5.1.1)'",
        ),
        ("@virt.example error:5.7.0:550 Don't", "virt:example-default", "|bouncesaying 'Dont (#5.7.0)'"),
        ("@virt.example error:tempfail Later", "virt:example-default", "|echo 'Later (#4.3.0)'; exit 111"),
    ],
)
def test_virtusertable(read: Read, row: str, name: str, command: str) -> None:
    reading = read(VIRTUAL, virtusertable=f"{row}\n")
    assert reading.plan.files[f"alias/.qmail-virtusertable-{name}"] == [command]
    assert reading.plan.files["control/virtualdomains"] == ["virt.example:virtusertable-virt.example"]
    assert "virt.example" in reading.plan.files["control/rcpthosts"]
    assert left(reading) == []


def test_users_of_a_domain_of_both_tables_still_get_their_mail(read: Read) -> None:
    reading = read(VIRTUAL, virtusertable="joe@mixed.example carol\n")
    assert "mixed.example" not in reading.plan.files["control/locals"]
    assert reading.plan.files["alias/.qmail-virtusertable-mixed:example-default"] == [
        '|forward "$DEFAULT"@me.example'
    ]


def test_the_host_itself_may_be_virtual(read: Read) -> None:
    reading = read(virtusertable="joe@me.example carol\n")
    assert reading.plan.files["control/locals"] == ["localhost"]
    assert reading.plan.files["alias/.qmail-virtusertable-me:example-joe"] == ["&carol@localhost"]
    assert reading.plan.files["alias/.qmail-virtusertable-me:example-default"] == ['|forward "$DEFAULT"@localhost']


def test_an_error_of_one_address_is_told_at_the_door(read: Read) -> None:
    assert read(VIRTUAL, virtusertable="x@virt.example error:nouser no\n").plan.files["control/badrcptto"] == [
        "x@virt.example"
    ]


@pytest.mark.parametrize(
    "row",
    [
        "x@unknown.example bob",
        "x+y@virt.example bob",
        "x@virt.example %2",
        "x@virt.example a,b",
        "x@virt.example |prog",
        "nodomain bob",
    ],
)
def test_virtusertable_that_is_left_is_named(read: Read, row: str) -> None:
    reading = read(VIRTUAL, virtusertable=f"{row}\n")
    assert [line for line, _text in left(reading)] == [1]
    assert not any(path.startswith("alias/") for path in reading.plan.files)


@pytest.mark.parametrize(
    ("row", "line", "kind"),
    [
        ("lan.example smtp:[192.168.1.7]", "lan.example:[192.168.1.7]", Kind.CARRIED),
        (".lan.example esmtp:[hub.lan.example]", ".lan.example:hub.lan.example", Kind.CARRIED),
        ("lan.example relay:hub.example", "lan.example:hub.example", Kind.CHANGED),
        ("lan.example smtp:[10.0.0.1]:[10.0.0.2]", "lan.example:[10.0.0.1]", Kind.CHANGED),
        ("lan.example smtp:[IPv6:2001:db8::1]", "lan.example:[2001:db8::1]", Kind.CARRIED),
        (". smtp:[hub.example]", ":hub.example", Kind.CARRIED),
    ],
)
def test_mailertable_routes(read: Read, row: str, line: str, kind: Kind) -> None:
    reading = read(mailertable=f"{row}\n")
    assert reading.plan.files["control/smtproutes"] == [line]
    assert [found.kind for found in reading.report.findings] == [kind]


@pytest.mark.parametrize(
    ("row", "command"),
    [
        ("x.example local:bob", "&bob@me.example"),
        ("x.example local:", '|forward "$DEFAULT"@me.example'),
        ("x.example error:5.7.1:550 no", "|bouncesaying 'no (#5.7.1)'"),
        ("x.example discard:", "#"),
    ],
)
def test_mailertable_of_this_host(read: Read, row: str, command: str) -> None:
    reading = read(mailertable=f"{row}\n")
    assert reading.plan.files["control/virtualdomains"] == ["x.example:mailertable-x.example"]
    assert reading.plan.files["alias/.qmail-mailertable-x:example-default"] == [command]


@pytest.mark.parametrize(
    "row",
    ["x.example uucp-dom:y", "me.example smtp:[a.example]", "x.example plain", ". local:bob", "x.example smtp:"],
)
def test_mailertable_that_is_left_is_named(read: Read, row: str) -> None:
    reading = read(mailertable=f"{row}\n")
    assert [line for line, _text in left(reading)] == [1]
    assert reading.plan.files.keys() == ALWAYS


@pytest.mark.parametrize(
    ("macro", "file", "lines"),
    [
        ("define(`SMART_HOST', `[192.168.1.1]')", "smtproutes", [":[192.168.1.1]"]),
        (
            "define(`SMART_HOST', `relay:hub.example')\ndefine(`RELAY_MAILER_ARGS', `TCP $h 587')",
            "smtproutes",
            [":hub.example:587"],
        ),
        ("LOCAL_DOMAIN(`Nix.example')MASQUERADE_AS(nix.example)", "defaulthost", ["nix.example"]),
        ("define(`confMAX_MESSAGE_SIZE', 5000)", "databytes", ["5000"]),
        ("define(`confTO_QUEUERETURN', `4d12h')", "queuelifetime", ["388800"]),
        ("define(`confTO_QUEUEWARN', `2h')", "delaynotice", ["7200"]),
        ("define(`confMAX_HOP', `30')", "hopsmax", ["30"]),
        ("define(`confMAX_RCPTS_PER_MESSAGE', `50')", "recipientsmax", ["100"]),
        ("DAEMON_OPTIONS(`Port=smtp,Addr=127.0.0.1, Name=MTA')", "listen", ["smtp 127.0.0.1:25"]),
        ("DAEMON_OPTIONS(`Family=inet6,Addr=::1,Port=submission,M=E')", "listen", ["submission [::1]:587"]),
        ("DAEMON_OPTIONS(`Name=MTA')\nDAEMON_OPTIONS(`Family=inet6')", "listen", ["smtp *:25"]),
        ("DAEMON_OPTIONS(`Port=465,M=s')", "listen", ["smtps *:465"]),
        ("LOCAL_DOMAIN(`a.example b.example')", "locals", ["a.example", "b.example", "localhost", "me.example"]),
        ("FEATURE(`nullclient', `[hub.example]')", "smtproutes", [":hub.example"]),
    ],
)
def test_macros(read: Read, macro: str, file: str, lines: list[str]) -> None:
    reading = read(sendmail_mc=f"divert(-1)\ndefine(`confMAX_HOP', `1')\ndivert(0)dnl\n{macro}dnl\nMAILER(smtp)\n")
    assert reading.plan.files[f"control/{file}"] == lines
    assert left(reading) == []


def test_a_null_client_has_no_local_mail(read: Read) -> None:
    assert read(sendmail_mc="FEATURE(`nullclient', `hub.example')\n").plan.files["control/locals"] == []


@pytest.mark.parametrize(
    "macro",
    [
        "define(`confAUTH_OPTIONS', `A')",
        "define(`MAIL_HUB', `hub.example')",
        "FEATURE(`dnsbl', `l.example')",
        "FEATURE(`unheard')",
        "MASQUERADE_AS(`far.example')",
        "MAILER(`cyrusv2')",
        "HACK(`x')",
        "DAEMON_OPTIONS(`Port=odd')",
        "define(`confMAX_MESSAGE_SIZE', `big')",
        "FEATURE(`virtusertable', `hash /etc/mail/nosuch')",
    ],
)
def test_macros_that_are_left_are_named(read: Read, macro: str) -> None:
    reading = read(sendmail_mc=f"dnl first line\n{macro}\n")
    assert [line for line, _text in left(reading)] == [2]
    assert reading.plan.files.keys() == ALWAYS


def test_sendmail_cf_where_there_is_no_mc(read: Read) -> None:
    reading = read(
        sendmail_cf="# comment\nCwlocalhost a.example nix.example\nFw/etc/mail/names %[^\\#]\nDSrelay:[192.0.2.1]\n"
        "DMnix.example\nDjHost.nix.example\nC{VirtHost}virt.example\nKvirtuser hash -o /etc/mail/virtusertable\n"
        "O MaxMessageSize=77\nOT3d/4h\n#O MaxHopCount=3\nO Timeout.queuewarn=1h\nS0\nR$*\t$1\n",
        names="b.example\n",
        virtusertable="x@virt.example bob\n",
    )
    files = reading.plan.files
    assert files["control/locals"] == [
        "a.example",
        "b.example",
        "host.nix.example",
        "localhost",
        "me.example",
        "nix.example",
    ]
    assert files["control/smtproutes"] == [":[192.0.2.1]"]
    assert files["control/defaulthost"] == ["nix.example"]
    assert files["control/databytes"] == ["77"]
    assert files["control/queuelifetime"] == ["259200"]
    assert files["control/delaynotice"] == ["3600"]
    assert files["control/virtualdomains"] == ["virt.example:virtusertable-virt.example"]
    assert left(reading) == []


def test_a_table_that_is_compiled_only_is_named(read: Read) -> None:
    assert "makemap -u" in "".join(
        found.remedy for found in read({"access.db": "\0"}).report.findings if found.kind is Kind.LEFT
    )


@pytest.mark.parametrize(
    ("macro", "names"),
    [("", ["mqueue", "mqueue-client"]), ("define(`QUEUE_DIR', `{}/other/q*')", ["other", "mqueue-client"])],
)
def test_queues_of_this_host(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, macro: str, names: list[str]
) -> None:
    for name in ("mqueue", "mqueue-client", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("ekiden.migration.reading.MAIN_QUEUE", tmp_path / "mqueue")
    reading = read(sendmail_mc=macro.format(tmp_path))
    assert reading.queue_directories() == [], "of another host"
    monkeypatch.setattr("ekiden.migration.reading.STANDARD", tmp_path / "mail")
    assert reading.queue_directories() == [tmp_path / name for name in names]
    assert left(reading) == []


def test_senders_are_not_rewritten_and_anybody_is_trusted(read: Read) -> None:
    reading = read({"trusted-users": "root\n"}, genericstable="bob\tBob.Smith@nix.example\n")
    assert reading.plan.files.keys() == ALWAYS
    generic = next(found for found in reading.report.findings if found.kind is Kind.LEFT)
    assert generic.remedy == "in bob's environment: QMAILUSER=Bob.Smith QMAILHOST=nix.example"


@pytest.mark.parametrize(("text", "wanted"), [("5d", 432_000), ("1h30m", 5400), ("90", 5400), ("2w", 1_209_600)])
def test_intervals(text: str, wanted: int) -> None:
    assert seconds(text) == wanted


@given(st.text(alphabet="`'(),#\n dnldefine123\x00é"))
def test_macros_are_read_whatever_they_are(text: str) -> None:
    for call in calls(text, "x"):
        assert 1 <= call.place.line <= text.count("\n") + 1


@given(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,4}\.?|ipv6:[0-9a-f:]{0,20}", fullmatch=True))
def test_every_key_is_one_that_tcp_rules_take(word: str) -> None:
    key = relay_key(word)
    if key:
        (rule,) = parse_rules([f"{key}:deny".encode()])
        assert rule.keys
