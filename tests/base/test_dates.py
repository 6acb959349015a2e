import calendar
import email.utils
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base import dates

MOMENT = 1795406193.123456  # 23 Nov 2026 03:56:33 UTC


@pytest.fixture
def zone(monkeypatch):
    """Sets the process's time zone; the caches know nothing of zones, so they are emptied."""

    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()
        for cached in (dates._local_date, dates._mbox_date, dates._syslog_date):
            cached.cache_clear()

    yield set_zone
    monkeypatch.undo()
    os.environ.pop("TZ", None)
    time.tzset()
    for cached in (dates._local_date, dates._mbox_date, dates._syslog_date):
        cached.cache_clear()


def test_utc_date_is_qmails():
    assert dates.utc_date(MOMENT) == b"23 Nov 2026 03:56:33 -0000"
    assert dates.utc_date(calendar.timegm((1995, 9, 6, 4, 6, 3))) == b"6 Sep 1995 04:06:03 -0000"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("JST-9", b"23 Nov 2026 12:56:33 +0900"),
        ("EST5", b"22 Nov 2026 22:56:33 -0500"),
        ("NST3:30", b"23 Nov 2026 00:26:33 -0330"),
        ("UTC0", b"23 Nov 2026 03:56:33 +0000"),
    ],
)
def test_local_date_bears_its_zone(zone, name, expected):
    zone(name)
    assert dates.local_date(MOMENT) == expected


def test_mbox_and_syslog_dates(zone):
    zone("JST-9")
    assert dates.mbox_date(MOMENT) == b"Mon Nov 23 12:56:33 2026"
    assert dates.mbox_date(MOMENT, utc=True) == b"Mon Nov 23 03:56:33 2026"
    assert dates.syslog_date(MOMENT) == b"Nov 23 12:56:33"
    assert dates.syslog_date(MOMENT - 20 * 86400) == b"Nov  3 12:56:33"


def test_compact_date():
    assert dates.compact_date(MOMENT) == b"20261123035633"


@given(st.integers(min_value=0, max_value=2**33))
def test_dates_read_back(when):
    for written in (dates.utc_date(when), dates.local_date(when)):
        assert email.utils.mktime_tz(email.utils.parsedate_tz(written.decode())) == when
    parsed = time.strptime(dates.mbox_date(when, utc=True).decode(), "%a %b %d %H:%M:%S %Y")
    assert calendar.timegm(parsed) == when
