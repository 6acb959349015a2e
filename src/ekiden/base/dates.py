"""Moments as mail writes them. A moment is seconds of the epoch; nothing here looks at a clock.

Names of days and months are English whatever the locale says. Results are remembered for the last few seconds asked
about, because a busy host writes the same second thousands of times.
"""

from __future__ import annotations

import functools
import time

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def utc_date(when: float) -> bytes:
    """A date-time of RFC 5322 section 3.3 as qmail writes it: ``23 Nov 2026 03:56:33 -0000``.

    The zone ``-0000`` says that the time is universal and nothing is said about where the host is.
    """
    return _utc_date(int(when))


def local_date(when: float) -> bytes:
    """A date-time of RFC 5322 section 3.3 in the host's zone: ``23 Nov 2026 12:56:33 +0900``."""
    return _local_date(int(when))


def mbox_date(when: float, utc: bool = False) -> bytes:
    """The date at the end of an mbox ``From_`` line, asctime's form (mbox(5)): ``Mon Nov 23 12:56:33 2026``."""
    return _mbox_date(int(when), utc)


def syslog_date(when: float) -> bytes:
    """The time stamp of RFC 3164 section 4.1.2, in the host's zone: ``Nov  3 12:56:33``, the day space-padded."""
    return _syslog_date(int(when))


def compact_date(when: float) -> bytes:
    """Universal time in digits, as in qmail's Message-IDs: ``20261123035633``."""
    moment = time.gmtime(when)
    return b"%04d%02d%02d%02d%02d%02d" % moment[:6]


@functools.lru_cache(maxsize=8)
def _utc_date(second: int) -> bytes:
    return _date_time(time.gmtime(second)) + b" -0000"


@functools.lru_cache(maxsize=8)
def _local_date(second: int) -> bytes:
    moment = time.localtime(second)
    minutes = abs(moment.tm_gmtoff) // 60
    sign = b"-" if moment.tm_gmtoff < 0 else b"+"
    return _date_time(moment) + b" %b%02d%02d" % (sign, minutes // 60, minutes % 60)


@functools.lru_cache(maxsize=8)
def _mbox_date(second: int, utc: bool) -> bytes:
    moment = time.gmtime(second) if utc else time.localtime(second)
    day, month = DAYS[moment.tm_wday].encode(), MONTHS[moment.tm_mon - 1].encode()
    return b"%b %b %02d %b %04d" % (day, month, moment.tm_mday, _clock(moment), moment.tm_year)


@functools.lru_cache(maxsize=8)
def _syslog_date(second: int) -> bytes:
    moment = time.localtime(second)
    return b"%b %2d %b" % (MONTHS[moment.tm_mon - 1].encode(), moment.tm_mday, _clock(moment))


def _date_time(moment: time.struct_time) -> bytes:
    month = MONTHS[moment.tm_mon - 1].encode()
    return b"%d %b %04d %b" % (moment.tm_mday, month, moment.tm_year, _clock(moment))


def _clock(moment: time.struct_time) -> bytes:
    return b"%02d:%02d:%02d" % moment[3:6]
