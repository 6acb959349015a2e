"""Every target, by name."""

from __future__ import annotations

from tests.fuzz import answers, files, frontiers, messages, neighbours, network, people, stores

TARGETS = {
    target.name: target
    for room in (network, answers, messages, files, stores, frontiers, neighbours, people)
    for target in room.TARGETS
}
