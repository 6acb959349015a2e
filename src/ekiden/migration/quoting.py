"""Octets that count and those that are quoted, in aliases and addresses as sendmail reads them."""

from __future__ import annotations

from collections.abc import Iterator


def unquoted(text: bytes, octet: int) -> Iterator[int]:
    """Where ``octet`` stands outside double quotes and without a backslash before it."""
    inside = escaped = False
    for place, found in enumerate(text):
        if escaped:
            escaped = False
        elif found == 0x5C:
            escaped = True
        elif found == 0x22:
            inside = not inside
        elif found == octet and not inside:
            yield place
