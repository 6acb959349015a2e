"""The settings' object: what follows me, and that it survives the way from process to process."""

from __future__ import annotations

import msgspec
import pytest

from ekiden.settings.schema import FOLLOWING_ME, Listener, Settings, default


@pytest.mark.parametrize("name", sorted(FOLLOWING_ME))
def test_host_names_are_as_me_says_unless_given(name: str) -> None:
    assert getattr(Settings(me=b"Host.example"), name) == b"Host.example"
    assert getattr(Settings(me=b"host.example", **{name: b"other.example"}), name) == b"other.example"
    assert getattr(Settings(me=b"host.example", **{name: b""}), name) == b""


def test_what_follows_me_is_what_qmail_control_says() -> None:
    hosts = "bouncehost defaultdomain defaulthost doublebouncehost envnoathost helohost idhost localiphost plusdomain"
    assert {*hosts.split(), "smtpgreeting"} == FOLLOWING_ME


def test_locals_is_me_in_lower_case_unless_given() -> None:
    assert Settings(me=b"Host.Example").locals == {b"host.example"}
    assert Settings(me=b"host.example", locals=frozenset()).locals == frozenset()


def test_rcpthosts_absent_is_not_rcpthosts_empty() -> None:
    assert Settings(me=b"host").rcpthosts is None
    assert Settings(me=b"host", rcpthosts=frozenset()).rcpthosts == frozenset()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(me=b"host"),
        Settings(me=b"host", locals=frozenset(), rcpthosts=frozenset({b"a", b".b"}), smtproutes={b"": b"[::1]:26"}),
        Settings(me=b"host", listen=(Listener("smtp", host="*", port=25, options={"a": "b"}),), ipv6=False),
        # What a file says is kept, even if it is what the schema uses inside for "as me says".
        Settings(me=b"host", idhost=bytes(bytearray(b"(me)"))),
    ],
)
def test_settings_come_back_from_a_frame_as_they_were(settings: Settings) -> None:
    travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=Settings)
    assert travelled == settings


def test_a_frame_with_a_wrong_type_is_not_settings() -> None:
    bad = msgspec.msgpack.encode({"me": b"host", "databytes": "many"})
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(bad, type=Settings)


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Settings(me=b"host").me = b"other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [("me", b""), ("idhost", b""), ("databytes", 0), ("doublebounceto", b"postmaster"), ("rcpthosts", None)],
)
def test_default(name: str, value: object) -> None:
    assert default(name) == value
