"""A control directory with whatever files a test needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def control(tmp_path: Path) -> Callable[..., Path]:
    """Call it with the files' contents by name (``me`` is there unless given as None); it returns the directory."""

    def write(files: dict[str, str | bytes | None] | None = None) -> Path:
        directory = tmp_path / "control"
        directory.mkdir()
        for name, content in {"me": "host.example\n", **(files or {})}.items():
            if content is not None:
                (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return directory

    return write
