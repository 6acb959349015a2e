"""The catalogue describes every setting, and what it says agrees with the schema."""

from __future__ import annotations

import typing

import pytest

from ekiden.settings.catalogue import CATALOGUE, CHAPTERS, control_file
from ekiden.settings.description import MANY, Kind
from ekiden.settings.schema import Settings, default

TYPES = {
    Kind.NUMBER: (int,),
    Kind.FLAG: (bool,),
    Kind.LINE: (bytes,),
    Kind.TEXT: (bytes,),
    Kind.CHOICE: (str,),
    Kind.ADDRESS: (str,),
    Kind.SET: (frozenset, type(None)),
    Kind.LIST: (tuple,),
    Kind.MAP: (dict,),
    Kind.LISTENERS: (tuple,),
    Kind.FILE: (str,),
}


def test_every_setting_is_described_once() -> None:
    assert sorted(CATALOGUE) == sorted(Settings.__struct_fields__)
    assert sum(map(len, CHAPTERS.values())) == len(CATALOGUE)


def test_no_two_settings_share_a_file() -> None:
    files = [control_file(name) for name in CATALOGUE]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_description_agrees_with_the_schema(name: str) -> None:
    setting, value = CATALOGUE[name], default(name)
    assert isinstance(value, TYPES[setting.kind])
    if setting.kind is Kind.NUMBER:
        assert isinstance(value, int)
        assert setting.low <= value <= setting.high
    if setting.kind is Kind.CHOICE:
        assert typing.get_args(typing.get_type_hints(Settings)[name]) == setting.choices
        assert value in setting.choices


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_description_has_its_words(name: str) -> None:
    setting = CATALOGUE[name]
    assert setting.help.endswith(".")
    assert "|" not in setting.help, "would end the cell of the manual's table"
    assert "{}" in setting.sentence
    assert bool(setting.absent) == (setting.kind in MANY or setting.kind in (Kind.FILE, Kind.ADDRESS))
