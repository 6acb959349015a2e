"""control/listen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.settings.file import ControlFile
from ekiden.settings.listeners import parse_listener, parse_listeners
from ekiden.settings.schema import Listener


@pytest.mark.parametrize(
    ("line", "listener"),
    [
        ("smtp 127.0.0.1:2525", Listener("smtp", "127.0.0.1", 2525)),
        ("smtps *:465", Listener("smtps", "*", 465)),
        ("submission [::]:587", Listener("submission", "[::]", 587)),
        ("qmtp [2001:db8::1]:209", Listener("qmtp", "[2001:db8::1]", 209)),
        ("pop3 localhost:110", Listener("pop3", "127.0.0.1", 110)),
        ("lmtp /var/run/lmtp", Listener("lmtp", path="/var/run/lmtp")),
        ("lmtp /run/lmtp mode=660", Listener("lmtp", path="/run/lmtp", options={"mode": "660"})),
        ("smtp\t*:25   auth=yes ", Listener("smtp", "*", 25, options={"auth": "yes"})),
    ],
)
def test_a_line_is_a_listener(line: str, listener: Listener) -> None:
    assert parse_listener(line) == listener


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("http *:80", '"http" is no service; allowed are smtp, '),
        ("SMTP *:25", '"SMTP" is no service'),
        ("lmtp *:24 mode=660", "mode is for unix sockets"),
        ("lmtp /run/lmtp mode=9", "three octal digits"),
        ("\v", '"" is no service'),
        ("smtp", "smtp has no address"),
        ("smtp 25", "25 is no address; allowed are "),
        ("smtp *:", "*: is no address"),
        ("smtp *:0", "*:0 is no address"),
        ("smtp *:65536", "*:65536 is no address"),
        ("smtp 127.0.0.256:25", "127.0.0.256:25 is no address"),
        ("smtp 127.1:25", "127.1:25 is no address"),
        ("smtp ::1:25", "::1:25 is no address"),
        ("smtp [127.0.0.1]:25", "[127.0.0.1]:25 is no address"),
        ("smtp mail.example:25", "mail.example:25 is no address"),
        ("smtp *:25 starttls", "starttls is no option"),
        ("smtp *:25 auth=maybe", "auth is for smtp, smtps, submission, and one of no, yes, required"),
        ("lmtp *:24 auth=yes", "auth is for smtp"),
        ("smtp *:25 auth=no auth=yes", "the option auth is given twice"),
        ("smtp *:25 auht=required", "the option auht is unknown; allowed are auth, mode"),
        ("lmtp run/lmtp", "run/lmtp is no address"),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(line: str, complaint: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_listener(line)
    assert complaint in str(error.value)


@given(st.text(st.characters(codec="ascii"), min_size=1).filter(str.strip))
def test_any_line_is_a_listener_or_a_complaint(line: str) -> None:
    try:
        place = line.split()[0]
        assert parse_listener("smtp " + line).where in (place, place.replace("localhost", "127.0.0.1"))
    except ValueError as error:
        assert str(error)


def test_problems_name_their_lines_and_the_others_are_kept() -> None:
    file = ControlFile("listen", b"# here\nsmtp *:25\nsmtp nowhere\nsmtps *:25\nsmtp \xff\npop3 *:110\n")
    assert [listener.where for listener in parse_listeners(file)] == ["*:25", "*:110"]
    assert [problem.line for problem in file.problems] == [3, 4, 5]
    assert all(problem.fatal and problem.file == "control/listen" for problem in file.problems)


@pytest.mark.parametrize(
    ("host", "where", "address"),
    [("*", "*:25", ""), ("[::1]", "[::1]:25", "::1"), ("10.0.0.1", "10.0.0.1:25", "10.0.0.1")],
)
def test_where_a_listener_is(host: str, where: str, address: str) -> None:
    listener = Listener("smtp", host, 25)
    assert (listener.where, listener.address) == (where, address)


def test_where_a_socket_is() -> None:
    listener = Listener("lmtp", path="run/lmtp")
    assert (listener.where, listener.address) == ("run/lmtp", "")


@pytest.mark.parametrize(
    ("line", "auth"),
    [
        ("smtp *:25", "no"),
        ("smtp *:25 auth=yes", "yes"),
        ("smtps *:465", "yes"),
        ("smtps *:465 auth=no", "no"),
        ("submission *:587", "required"),
        ("submission *:587 auth=yes", "yes"),
        ("pop3 *:110", "no"),
    ],
)
def test_where_clients_may_log_in(line: str, auth: str) -> None:
    assert parse_listener(line).auth == auth
