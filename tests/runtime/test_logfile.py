import os

import pytest

from ekiden.runtime.logfile import LogFile


def write_all(file, data):
    while data:
        data = data[file.write(data) :]


def numbered(path):
    """All that was written, oldest first."""
    rotated = sorted(path.parent.glob(path.name + ".*"), key=lambda name: -int(name.suffix[1:]))
    return [*rotated, path]


def lines(count):
    return b"".join(b"line %05d\n" % number for number in range(count))


@pytest.mark.parametrize("batch", [11, 400, 5000, 100_000])
def test_rotation_loses_no_line_and_cuts_none(tmp_path, batch):
    path = tmp_path / "ekiden.log"
    file = LogFile(path, 1000, 1000)
    data = lines(2000)
    for start in range(0, len(data), batch):
        write_all(file, data[start : start + batch])
    files = numbered(path)
    assert b"".join(name.read_bytes() for name in files) == data
    assert all(name.stat().st_size <= 1000 for name in files)
    if batch == 11:
        assert all(name.read_bytes().endswith(b"\n") for name in files)


def test_only_so_many_files_are_kept(tmp_path):
    path = tmp_path / "ekiden.log"
    file = LogFile(path, 1000, 3)
    write_all(file, lines(2000))
    assert [name.name for name in numbered(path)] == ["ekiden.log.2", "ekiden.log.1", "ekiden.log"]
    # 90 lines fit into a file: two full ones, and the 20 that are left over of 2,000.
    assert b"".join(name.read_bytes() for name in numbered(path)) == lines(2000)[-len(b"line 00000\n") * 200 :]


def test_a_smaller_count_removes_what_is_too_old(tmp_path):
    path = tmp_path / "ekiden.log"
    write_all(LogFile(path, 1000, 10), lines(900))
    write_all(LogFile(path, 1000, 2), lines(100))
    assert len(numbered(path)) == 2


def test_a_line_longer_than_the_file_is_written_whole(tmp_path):
    path = tmp_path / "ekiden.log"
    file = LogFile(path, 100, 10)
    write_all(file, b"a\n" + b"x" * 500 + b"\nb\n")
    assert [name.read_bytes() for name in numbered(path)] == [b"a\n", b"x" * 500 + b"\n", b"b\n"]


def test_reopen_after_somebody_renamed_it(tmp_path):
    path = tmp_path / "ekiden.log"
    file = LogFile(path, 1000, 10)
    file.write(b"one\n")
    path.rename(tmp_path / "taken")
    file.write(b"two\n")
    file.reopen()
    file.write(b"three\n")
    assert (tmp_path / "taken").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_existing_file_is_continued(tmp_path):
    path = tmp_path / "ekiden.log"
    path.write_bytes(b"x" * 995 + b"\n")
    write_all(LogFile(path, 1000, 10), b"after\n")
    assert path.read_bytes() == b"after\n"


def test_a_file_that_cannot_be_renamed_goes_on_growing(tmp_path, monkeypatch):
    path = tmp_path / "ekiden.log"
    file = LogFile(path, 1000, 10)
    monkeypatch.setattr(type(path), "rename", lambda *_: (_ for _ in ()).throw(PermissionError()))
    write_all(file, lines(500))
    assert path.read_bytes() == lines(500)


def test_no_directory_raises_oserror(tmp_path):
    with pytest.raises(OSError):
        LogFile(tmp_path / "none" / "ekiden.log", 1000, 10).write(b"x\n")
    assert not os.path.exists(tmp_path / "none")
