"""From a message's ended recipients to the notice that tells of them."""

from __future__ import annotations

from ekiden.queue.bounce import Notice
from ekiden.queue.lane import Message
from ekiden.settings.schema import Settings


def notice_for(settings: Settings, message: Message, content: bytes, now: float) -> Notice | None:
    return None
