"""Every target, by name."""

from __future__ import annotations

from tests.fuzz import answers, files, frontiers, messages, network, stores

TARGETS = {
    target.name: target for room in (network, answers, messages, files, stores, frontiers) for target in room.TARGETS
}
