"""docs/settings.md is what the catalogue makes of it."""

from __future__ import annotations

from pathlib import Path

from ekiden.settings.manual import render

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_manual_is_in_step_with_the_catalogue() -> None:
    assert PAGE.read_text("utf-8") == render(), "run: python -m ekiden.settings.manual > docs/settings.md"
