import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_core.data.datasets.listing import (
    examples,
    locate_listed,
    printable,
    read_lines,
    scan_folder,
    scan_subfolders,
    without_ending,
)
from tests.data.conftest import touch


def test_images_are_sorted_and_the_rest_is_told_apart(tmp_path):
    touch(tmp_path, ["b.jpg", "a.PNG", "c.jpeg", ".hidden.jpg", "z.txt", "d.bmp", "more.jpg/inside.jpg"])
    listing = scan_folder(tmp_path, "x/")
    assert listing.images == ["x/a.PNG", "x/b.jpg", "x/c.jpeg", "x/d.bmp"]
    assert listing.foreign == ["x/.hidden.jpg", "x/more.jpg/", "x/z.txt"]


def test_subfolders_are_those_asked_for(tmp_path):
    touch(tmp_path, ["1/a.jpg", "2/b.jpg", "2/deep/c.jpg", "10/d.jpg", "top.jpg", "notes.txt"])
    assert scan_subfolders(tmp_path).images == ["1/a.jpg", "10/d.jpg", "2/b.jpg"]
    assert scan_subfolders(tmp_path).foreign == ["2/deep/", "notes.txt", "top.jpg"]
    assert scan_subfolders(tmp_path, ["2", "33"]) == (["2/b.jpg"], ["2/deep/", "notes.txt", "top.jpg"])


def test_listed_images_are_found_by_name_and_else_by_stem(tmp_path):
    on_disk = ["a.JPG", "a.jpg", "b.PNG", "c.jpeg", "d.x.JPG"]
    found = locate_listed(["a.jpg", "b.jpg", "c", "d.x"], on_disk, tmp_path, "list.txt")
    assert found == {"a.jpg": "a.jpg", "b.jpg": "b.PNG", "c": "c.jpeg", "d.x": "d.x.JPG"}
    assert locate_listed(["a"], on_disk, tmp_path, "list.txt") == {"a": "a.JPG"}
    with pytest.raises(FileNotFoundError, match=r"2 of 3 images listed in list\.txt are not in .*: d, e\.jpg"):
        locate_listed(["e.jpg", "a.jpg", "d"], on_disk, tmp_path, "list.txt")


def test_lines_without_a_byte_order_mark_and_with_any_bytes(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfone 1\r\n\n  caf\xe9 2 \n")
    assert read_lines(tmp_path / "list.txt") == ["one 1", "", os.fsdecode(b"caf\xe9") + " 2"]


@given(st.binary(max_size=20))
def test_every_path_can_be_written(raw):
    path = os.fsdecode(raw)
    assert printable(path).encode("utf-8").decode("utf-8") == printable(path)
    assert printable(path) == path or "\\udc" in printable(path)


def test_examples_are_a_few():
    assert examples([]) == "" and examples(list("abcde")) == "a, b, c, d, e" and examples(list("abcdef"))[-4:] == " ..."


@pytest.mark.parametrize(("path", "stem"), [("a/b.JPG", "a/b"), ("a.b", "a.b"), ("a.v1/b", "a.v1/b"), ("c.jpeg", "c")])
def test_only_an_images_ending_is_cut(path, stem):
    assert without_ending(path) == stem
