import os
import stat

import pytest

from reid_core.utils.file_io import atomic_file, atomic_folder, remove_left_overs, write_atomically


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


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "below" / "folder"
    for text in ("one", "two"):
        with atomic_folder(path) as new:
            assert list(new.iterdir()) == []
            (new / "a.txt").write_text(text)
            assert not path.exists() or (path / "a.txt").read_text() == "one"
        assert (path / "a.txt").read_text() == text
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as new:
        (new / "b.txt").write_text("half")
        raise KeyboardInterrupt
    assert [entry.name for entry in path.iterdir()] == ["a.txt"]
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_or_is_killed_keeps_the_old_folder(tmp_path, monkeypatch, failing):
    path = tmp_path / "folder"
    with atomic_folder(path) as new:
        (new / "a.txt").write_text("old")
    calls, rename = [], os.replace

    def replace(source, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError("refused")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="refused"), atomic_folder(path):
            pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    os.replace(path, tmp_path / ".folder.old")  # as a process leaves it that is killed between the two renames
    with pytest.raises(KeyboardInterrupt), atomic_folder(path):
        raise KeyboardInterrupt
    assert (path / "a.txt").read_text() == "old"
