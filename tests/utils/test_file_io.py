import os
import stat

import pytest

from reid_core.utils.file_io import atomic_file, remove_left_overs, write_atomically


def test_content_appears_whole_with_usual_permissions(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, b"one")
    write_atomically(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_an_error_keeps_the_old_content_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write(b"half")
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_left_overs_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".a.txt.x7.tmp").write_bytes(b"half")
    (tmp_path / "kept.tmp").write_bytes(b"mine")
    remove_left_overs(tmp_path)
    remove_left_overs(tmp_path / "not there")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.tmp"]
