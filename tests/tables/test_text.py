"""Host lists as control/rcpthosts has them."""

from __future__ import annotations

import pytest

from ekiden.tables.table import TableError
from ekiden.tables.text import HostList

HOSTS = HostList([b"heaven.af.mil", b".Heaven.af.mil", b".jp", b"[192.0.2.1]"])


@pytest.mark.parametrize(
    ("host", "listed"),
    [
        (b"heaven.af.mil", True),
        (b"HEAVEN.AF.MIL", True),
        (b"x.y.heaven.af.mil", True),
        (b".heaven.af.mil", True),
        (b"xheaven.af.mil", False),
        (b"heaven.af.mil.", False),
        (b"af.mil", False),
        (b"jp", False),
        (b"co.jp", True),
        (b"[192.0.2.1]", True),
        (b"", False),
    ],
)
def test_hosts_and_suffixes(host: bytes, listed: bool) -> None:
    assert HOSTS.matches(host) is listed


def test_a_further_table_is_asked_for_host_and_suffixes() -> None:
    hosts = HostList([b"a"], {b"b.example": b"", b".c.example": b""})
    assert hosts.matches(b"B.example")
    assert hosts.matches(b"x.c.example")
    assert not hosts.matches(b"c.example")


def test_a_further_table_that_cannot_answer_is_not_a_no() -> None:
    class Broken:
        def get(self, key: bytes) -> bytes | None:
            raise TableError("damaged")

    hosts = HostList([b"a"], Broken())
    assert hosts.matches(b"a"), "the text decides by itself"
    with pytest.raises(TableError):
        hosts.matches(b"b")
