"""The authors' checkpoints of the prototype method: the memory is not in them, the classifier has to have a place."""

import pytest
import torch

from reid_core.inference.conversion import convert_checkpoint
from reid_core.modeling.checkpoint import read_checkpoint
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config
from tests.paths import ROOT

CONFIGS = ROOT / "projects" / "PCL_CLIP" / "configs"


@pytest.mark.parametrize(
    ("run", "rows", "note"),
    [
        ("market.yml", 4, ""),
        ("market_pcl_only.yml", 4, "not used: the model of this config has no heads.classifier.weight"),
        ("unsupervised_base.yml", 0, "not used: there are no identities to classify"),
    ],
)
def test_memories_and_classifier(small_run, tmp_path, run, rows, note):
    torch.manual_seed(2)
    model = build_model(load_config(CONFIGS / "market.yml", small_run()), "cpu", 4, 1, 1)
    names = (("backbone.visual.", "image_encoder."), ("heads.", ""))
    state = {
        theirs + name.removeprefix(ours): value
        for name, value in model.state_dict().items()
        for ours, theirs in names
        if name.startswith(ours)
    }
    torch.save(state, tmp_path / "theirs.pth")
    cfg = load_config(CONFIGS / run, small_run())
    report = convert_checkpoint(tmp_path / "theirs.pth", tmp_path / "a.pt", cfg)
    ours = read_checkpoint(tmp_path / "a.pt")["model"]
    for name, value in model.state_dict().items():
        if name.startswith(("backbone.", "heads.bottleneck")):
            assert torch.equal(ours[name], value), name
    memories = [value for name, value in ours.items() if name.endswith("prototypes")]
    assert memories and all(len(memory) == rows and not memory.any() for memory in memories)
    assert ("heads.classifier.weight" in ours) == (not note)
    assert note == next(entry.note for entry in report.entries if entry.source == "classifier.weight")
