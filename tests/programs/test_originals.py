"""Our programs give what notqmail's gave: exit codes, output and queued messages, byte by byte.

The cases in ``originals/`` were written down from the original programs. Where we differ on purpose, the program's
page in docs/ says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.programs.original import RECORDER, came_of, cases

HOME = {
    "control/me": "me.example.org\n",
    "control/rcpthosts": "ok.example\n.sub.example\n",
    "control/databytes": "10000\n",
    "users/assign": ".\n",
}
KEPT = sorted((Path(__file__).parent / "originals").glob("*.jsonl"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_same_as_the_original(path: Path, tmp_path: Path) -> None:
    recorder = tmp_path / "recorder"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    for name, text in HOME.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    kept = list(cases(path))
    assert kept
    for case in kept:
        ours = came_of(case, tmp_path)
        assert {key: case[key] for key in ours} == ours, case
