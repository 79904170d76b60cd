import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_core.data import ImageTable, PathColumn
from reid_core.structures import ReIDImage

names = st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6))


@given(names, names)
def test_paths_behave_as_a_list(first, second):
    columns = [PathColumn("/one", first), PathColumn("", second)]
    expected = [f"/one/{name}" for name in first] + second
    joined = PathColumn.concatenate(columns)
    assert list(joined) == expected and len(joined) == len(expected)
    assert [joined.relative(i) for i in range(len(joined))] == first + second
    assert list(joined[1:]) == expected[1:] and list(joined[::-2]) == expected[::-2]
    assert list(pickle.loads(pickle.dumps(joined))) == expected
    twice = PathColumn.concatenate([joined.select(np.arange(len(expected))[::-1]), joined])
    assert list(twice) == expected[::-1] + expected


def test_names_that_are_not_utf8_survive():
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert PathColumn("/r", [name])[0] == f"/r/{name}"


def test_a_zero_character_is_refused():
    with pytest.raises(ValueError, match=r"zero character, got 'b\\x00c'"):
        PathColumn("", ["a", "b\0c"])


def test_index_past_the_end_ends_iteration():
    with pytest.raises(IndexError):
        PathColumn("", ["a"])[1]
    assert PathColumn("", ["a", "b"])[-1] == "b"


def test_table_round_trip():
    records = [ReIDImage(f"p/{i}.jpg", i * 7, i % 3, i % 2) for i in range(9)]
    table = ImageTable.from_records(records)
    assert list(table) == records and ImageTable.from_records(table) is table
    assert list(table[2:5]) == records[2:5]
    assert list(table.select(np.array([8, 0, 8]))) == [records[8], records[0], records[8]]
    assert list(ImageTable.concatenate([table[:4], table[4:]])) == records
    assert all(type(value) is int for value in table[3][1:])


def test_empty_table():
    assert list(ImageTable.from_records([])) == [] == list(ImageTable.concatenate([]))


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one length"):
        ImageTable(PathColumn("", ["a"]), np.zeros(2), np.zeros(1))


def test_a_record_costs_far_less_than_a_tuple():
    table = ImageTable(PathColumn("/data/set", (f"train/{i:08d}.jpg" for i in range(10_000))), *np.zeros((2, 10_000)))
    assert len(pickle.dumps(table)) < 80 * 10_000
    assert abs(len(pickle.dumps(table)) - table.nbytes) < 2000
