"""Every target, by name."""

from __future__ import annotations

from tests.fuzz import answers, files, messages, network, stores

TARGETS = {target.name: target for room in (network, answers, messages, files, stores) for target in room.TARGETS}
