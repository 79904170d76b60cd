import os
import pickle
import resource
import signal

import pytest
import torch
from torch import nn

from reid_core.modeling.checkpoint import (
    CheckpointError,
    checkpoint_path,
    list_checkpoints,
    load_model,
    read_checkpoint,
    save_checkpoint,
)


class Model(nn.Module):
    identity_bound = ("classifier",)

    def __init__(self, identities=3, width=4):
        super().__init__()
        self.body = nn.Linear(width, width)
        self.classifier = nn.Linear(width, identities, bias=False) if identities else None


def _content(model, label_map=("a", "b", "c")):
    return {"model": model.state_dict(), "data": {"label_map": list(label_map)}, "architecture": "Model on Linear"}


@pytest.fixture
def saved(tmp_path):
    model = Model()
    path = checkpoint_path(tmp_path, 7)
    save_checkpoint(path, _content(model))
    return model, path


def test_what_is_saved_is_read(saved):
    model, path = saved
    content = read_checkpoint(path)
    assert torch.equal(content["model"]["body.weight"], model.body.weight)
    assert list_checkpoints(path.parent) == [path]
    other = Model()
    report = load_model(other, content, path, ["a", "b", "c"])
    assert torch.equal(other.classifier.weight, model.classifier.weight)
    assert report.notes == []


@pytest.mark.parametrize(("identities", "label_map"), [(0, None), (5, None), (5, list("abcde")), (3, ["a", "b", "x"])])
def test_other_identities_leave_the_classifier_out(saved, identities, label_map):
    """Also when their number is the same by chance: label 2 would mean somebody else."""
    model, path = saved
    other = Model(identities)
    before = other.classifier.weight.clone() if identities else None
    report = load_model(other, read_checkpoint(path), path, label_map)
    assert report.left_out == ["classifier.weight"]
    assert "3 training identities" in report.notes[0]
    assert torch.equal(other.body.weight, model.body.weight)
    if identities:
        assert torch.equal(other.classifier.weight, before)


def test_another_architecture_is_refused_and_nothing_is_loaded(saved):
    _, path = saved
    other = Model(width=6)
    before = other.body.weight.clone()
    with pytest.raises(CheckpointError, match=r"body.weight is \[4, 4\], the model's \[6, 6\].*Model on Linear"):
        load_model(other, read_checkpoint(path), path)
    assert torch.equal(other.body.weight, before)
    larger = Model()
    larger.extra = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"lacks 2 tensors \(extra.weight"):
        load_model(larger, read_checkpoint(path), path)


class _Evil:
    def __reduce__(self):
        return (os.mkdir, (self.folder,))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    evil = _Evil()
    evil.folder = str(tmp_path / "it_ran")
    for name, write in (("a.pt", torch.save), ("b.pt", lambda content, path: path.write_bytes(pickle.dumps(content)))):
        write({"format": "x", "model": evil}, tmp_path / name)
        with pytest.raises(CheckpointError, match="refused: loading it would run code"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_truncated_file_is_named(saved, size):
    _, path = saved
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=rf"{path.name} .*bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "text", [b"root:x:0:0:root:/root:/bin/bash\n", b"MODEL:\n  WEIGHTS: ''\n", b"\x89PNG\r\n\x1a\n"]
)
def test_a_file_of_another_kind_is_named(tmp_path, text):
    (tmp_path / "other.pt").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"other.pt .*"):
        read_checkpoint(tmp_path / "other.pt")


@pytest.mark.usefixtures("saved")
def test_missing_foreign_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*nothing.pt. In its folder: checkpoint_00000007.pt"):
        read_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError, match=r"is a folder; name a file in it: checkpoint_00000007.pt"):
        read_checkpoint(tmp_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"MODEL\.BACKBONE\.PRETRAINED"):
        read_checkpoint(tmp_path / "other.pt")


def test_nan_is_never_saved(saved):
    model, path = saved
    before = path.read_bytes()
    with torch.no_grad():
        model.body.weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"NaN or infinity, first body\.weight"):
        save_checkpoint(path, _content(model))
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_checkpoint(saved):
    """The kernel refuses to let files grow, as a full disk does; the write fails in the middle of the archive."""
    _, path = saved
    before = path.read_bytes()
    big = Model(width=300)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written.*Older checkpoints are untouched"):
            save_checkpoint(path, _content(big))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    load_model(Model(), read_checkpoint(path), path)


class StagedModel(Model):
    """Needs `early` in its first stage alone, and `extra` in training alone."""

    temporary = ("early.",)
    training_only = ("extra.",)

    def __init__(self, early=True, extra=True):
        super().__init__()
        self.early = nn.Linear(2, 2) if early else None
        self.extra = nn.Linear(2, 2) if extra else None


@pytest.mark.parametrize("saved_early", [True, False])
@pytest.mark.parametrize("own_early", [True, False])
def test_what_an_early_stage_needs_may_be_missing_on_either_side(tmp_path, saved_early, own_early):
    source, target = StagedModel(saved_early), StagedModel(own_early)
    before = target.early.weight.clone() if own_early else None
    report = load_model(target, _content(source), tmp_path, ["a", "b", "c"])
    assert report.lacks_temporary == (own_early and not saved_early)
    assert report.notes == []
    assert torch.equal(target.body.weight, source.body.weight)
    if own_early:
        assert torch.equal(target.early.weight, source.early.weight if saved_early else before)


def test_half_of_what_an_early_stage_needs_is_refused(tmp_path):
    content = _content(StagedModel())
    content["model"] = {key: value for key, value in content["model"].items() if key != "early.bias"}
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors \(early.bias\)"):
        load_model(StagedModel(), content, tmp_path)


def test_what_only_training_needs_is_left_out_by_a_model_without_it_and_missed_by_one_with_it(tmp_path):
    target = StagedModel(extra=False)
    load_model(target, _content(StagedModel()), tmp_path)
    with pytest.raises(CheckpointError, match=r"lacks 2 tensors \(extra.weight, extra.bias\)"):
        load_model(StagedModel(), _content(StagedModel(extra=False)), tmp_path)
