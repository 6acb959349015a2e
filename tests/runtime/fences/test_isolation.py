"""Where a fenced process finds the modules that are loaded late."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

import dns.resolver
import pytest

from ekiden.base import header
from ekiden.runtime.fences import isolation
from ekiden.wire import sasl_client


@pytest.mark.parametrize("module", [asyncio, dns.resolver, header, sasl_client, isolation])
def test_modules_are_where_they_may_be_read(module: ModuleType) -> None:
    assert module.__file__ is not None
    assert any(Path(module.__file__).is_relative_to(place) for place in isolation.MODULES)
