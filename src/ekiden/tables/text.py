"""Lists of host names in which ``.suffix`` stands for every host below it, as control/rcpthosts has them.

Source: qmail-smtpd(8).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ekiden.tables.table import Table


def dotted_suffixes(host: bytes) -> Iterator[bytes]:
    """Each suffix of ``host`` that begins with a dot and is shorter than ``host`` itself, the longest first."""
    dot = host.find(b".", 1)
    while dot >= 0:
        yield host[dot:]
        dot = host.find(b".", dot + 1)


class HostList:
    """Host names, and suffixes that begin with a dot; ``more`` is a table with more of them as its keys.

    A suffix does not match the name that it is of: ``.example.org`` says nothing about ``example.org``.
    """

    def __init__(self, hosts: Iterable[bytes], more: Table | None = None) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._more = more

    def matches(self, host: bytes) -> bool:
        """Whether the list names this host or a suffix of it. TableError if the further table cannot say."""
        host = host.lower()
        if not host:
            return False
        if host in self._hosts:
            return True
        return any(key in self._hosts for key in dotted_suffixes(host)) or self._more_matches(host)

    def _more_matches(self, host: bytes) -> bool:
        more = self._more
        if more is None:
            return False
        return more.get(host) is not None or any(more.get(key) is not None for key in dotted_suffixes(host))
