"""What start, stop, reload and status need to know before they do anything."""

from __future__ import annotations

from pathlib import Path

from ekiden.commands.running import patience
from ekiden.settings.first import configure, make_home


def test_stop_waits_for_as_long_as_sessions_and_deliveries_may_take(tmp_path: Path) -> None:
    make_home(tmp_path)
    configure(tmp_path, "mx.example.org", lambda _line: None)
    usual = patience(tmp_path)
    setting = tmp_path / "control" / "shutdownseconds"
    setting.write_text("3600\n")
    assert patience(tmp_path) == usual + 3600 - 60
    setting.write_text("an hour\n")
    assert patience(tmp_path) == usual
