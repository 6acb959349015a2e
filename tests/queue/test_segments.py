"""Segments: contents come back, room is used again and given back, what is damaged is seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.queue.segments import Segments

SIZE = 40_000
BLOCKS = 40_960
"""What a content of SIZE takes."""


@pytest.fixture
def segments(tmp_path: Path) -> Iterator[Segments]:
    made = Segments(tmp_path / "segments", 4 * BLOCKS)
    yield made
    made.close()


def content(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def take(segments: Segments, *numbers: int) -> list[tuple[int, int]]:
    """Have messages with these numbers come in, in one transaction."""
    places = segments.place([content(number) for number in numbers])
    segments.keep((number, place, SIZE) for number, place in zip(numbers, places, strict=True))
    return places


def lose(segments: Segments, *numbers: int) -> None:
    assert not segments.unknown([(number,) for number in numbers])
    segments.give_back([(number,) for number in numbers])


def files(tmp_path: Path) -> set[str]:
    return set(os.listdir(tmp_path / "segments"))


def octets(tmp_path: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (tmp_path / "segments").iterdir())


def test_contents_come_back(segments: Segments) -> None:
    places = take(segments, 1, 2) + take(segments, 3)
    assert [segments.read(*place, SIZE) for place in places] == [content(number) for number in (1, 2, 3)]


def test_an_empty_segment_is_written_over(segments: Segments, tmp_path: Path) -> None:
    for number in range(1, 50):
        assert take(segments, number) == [(1, 0)]
        lose(segments, number)
    assert octets(tmp_path) == BLOCKS


def test_full_segments_are_used_again(segments: Segments, tmp_path: Path) -> None:
    for number in range(1, 100):
        take(segments, number)
        if number > 3:
            lose(segments, number - 3)
    assert len(files(tmp_path)) <= 3


def test_what_was_not_committed_is_written_over(segments: Segments, tmp_path: Path) -> None:
    for _ in range(20):
        segments.place([content(number) for number in range(3)])
    assert octets(tmp_path) == 3 * BLOCKS


def test_what_leaves_a_lasting_segment_gives_its_room_back(segments: Segments, tmp_path: Path) -> None:
    places = {}
    for number in range(1, 41):
        places[number] = take(segments, number)[0]
    staying = range(2, 41, 4)
    lose(segments, *(number for number in range(1, 41) if number not in staying and number > 20))
    until = max(number for number in staying if segments.unknown([(number,)]))
    gone = [number for number in range(1, until + 1) if number not in staying and number <= 20]
    assert segments.unknown([(number,) for number in gone]) == gone
    before = octets(tmp_path)
    segments.give_back([(number,) for number in gone])
    segments.give_back_lasting([(*places[number], SIZE) for number in gone])
    assert octets(tmp_path) == before - len(gone) * BLOCKS
    assert [segments.read(*places[number], SIZE) for number in staying] == [content(number) for number in staying]


def test_a_lasting_segment_goes_with_its_last_content(tmp_path: Path) -> None:
    first = Segments(tmp_path / "segments", 4 * BLOCKS)
    places = take(first, 1, 2)
    first.close()
    again = Segments(tmp_path / "segments", 4 * BLOCKS)
    assert again.recover([(1, 2, 2)]) == 0
    assert take(again, 3) == [(2, 0)], "nothing is added to what was there"
    assert again.unknown([(1,), (2,), (3,)]) == [1, 2]
    again.give_back_lasting([(*places[0], SIZE)])
    assert files(tmp_path) == {"1", "2"}
    again.give_back_lasting([(*places[1], SIZE)])
    assert files(tmp_path) == {"2"}
    again.close()


def test_what_no_row_names_is_removed_at_start(tmp_path: Path) -> None:
    first = Segments(tmp_path / "segments", BLOCKS)
    take(first, 1)
    take(first, 2)
    again = Segments(tmp_path / "segments", BLOCKS)
    assert again.recover([(2, 1, 2)]) == 1
    assert files(tmp_path) == {"2"}
    again.close()
    assert files(tmp_path) == {"2"}
    first.close()


def test_a_strangers_file_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "segments" / "lost+found").mkdir(parents=True)
    segments = Segments(tmp_path / "segments", BLOCKS)
    assert segments.recover([]) == 0
    assert take(segments, 1) == [(1, 0)]
    segments.close()


def test_an_orderly_end_leaves_what_is_named(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "segments", 4 * BLOCKS)
    take(segments, *range(1, 20))
    lose(segments, *range(1, 19))
    segments.close()
    assert len(files(tmp_path)) == 1
    assert octets(tmp_path) == BLOCKS


def test_what_is_gone_or_cut_off_is_not_whole(segments: Segments, tmp_path: Path) -> None:
    ((number, at),) = take(segments, 1)
    os.truncate(tmp_path / "segments" / str(number), 100)
    assert segments.read(number, at, SIZE) == content(1)[:100]
    os.unlink(tmp_path / "segments" / str(number))
    with pytest.raises(FileNotFoundError):
        segments.read(number, at, SIZE)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(33_000, 120_000), st.booleans()), max_size=60))
def test_whatever_comes_and_goes_what_stays_is_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    """Each step has one come in, of that size, and perhaps the oldest go."""
    segments = Segments(tmp_path_factory.mktemp("segments") / "segments", 4 * BLOCKS)
    there: dict[int, tuple[int, int, int]] = {}
    for number, (size, goes) in enumerate(steps):
        (place,) = segments.place([content(number, size)])
        there[number] = (*place, len(content(number, size)))
        segments.keep([(number, place, there[number][2])])
        if goes:
            oldest = min(there)
            lasting = segments.unknown([(oldest,)])
            segments.give_back([(oldest,)])
            segments.give_back_lasting([there[oldest]] if lasting else [])
            del there[oldest]
    for number, (segment, at, size) in there.items():
        assert segments.read(segment, at, size) == content(number, size)
    segments.close()
