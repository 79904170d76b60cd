"""The authors' checkpoints with self-supervision: which terms they were trained with is read off them."""

import pytest
import torch

from reid_core.inference.conversion import convert_checkpoint
from reid_core.modeling.checkpoint import read_checkpoint
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config
from tests.projects.CLIP_ReID.test_converter import NAMES


@pytest.fixture
def convert(self_supervised_config, self_supervised_run, tmp_path):
    """convert(config=..., **of the file) -> the checkpoint's model, its config, and the model that the file is of.
    The converted config has the published widths, not the file's."""

    def make(**more):
        trained = load_config(self_supervised_config, self_supervised_run(**{"SVLL__LANGUAGE_TERM": True, **more}))
        torch.manual_seed(2)
        model = build_model(trained, "cpu", 4, 2, 1)
        first = "linear1." if trained.SVLL.VISION_LOSS == "simsiam" else "layer1."
        state = {}
        for name, value in model.state_dict().items():
            if name.startswith(("image_head.", "text_projector.")):
                part, _, rest = name.partition(".")
                rest = rest.replace("linear1.", first if part == "image_head" else "layer1.").replace("linear", "layer")
                rest = rest.replace("layer1.", first) if part == "image_head" else rest
                state[f"{'image_mlp' if part == 'image_head' else 'text_mlp'}.{rest}"] = value
            for ours, theirs in {**NAMES, "backbone.cv_embed": "cv_embed"}.items():
                if name.startswith(ours):
                    state[theirs + name.removeprefix(ours)] = value
        template = model.text.prompts.template
        state["prompt_learner.token_prefix"], state["prompt_learner.token_suffix"] = (
            template[None, :5],
            template[None, 9:],
        )
        torch.save(state, tmp_path / "theirs.pth")
        published = {"SVLL__PROJECTOR_HIDDEN_WIDTH": 4096, "SVLL__PROJECTOR_OUTPUT_WIDTH": 256}
        cfg = load_config(self_supervised_config, self_supervised_run(**published))
        convert_checkpoint(tmp_path / "theirs.pth", tmp_path / "a.pt", cfg)
        return read_checkpoint(tmp_path / "a.pt")["model"], load_config(tmp_path / "a.yaml"), model

    return make


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ({}, (True, True, "simclr", 2)),
        ({"SVLL__VISION_LOSS": "simsiam", "SVLL__LANGUAGE_TERM": False}, (True, False, "simsiam", 2)),
        ({"SVLL__VISION_TERM": False, "INPUT__EXTRA_VIEWS": 0}, (False, True, "simclr", 0)),
        (
            {"SVLL__VISION_TERM": False, "INPUT__EXTRA_VIEWS": 0, "SVLL__LANGUAGE_TERM": False},
            (False, False, "simclr", 0),
        ),
    ],
)
def test_terms_and_widths_follow_from_the_file(convert, trained, expected):
    ours, cfg, model = convert(**trained)
    found = (cfg.SVLL.VISION_TERM, cfg.SVLL.LANGUAGE_TERM, cfg.SVLL.VISION_LOSS, cfg.INPUT.EXTRA_VIEWS)
    assert found == expected
    theirs = model.state_dict()
    heads = [name for name in theirs if name.startswith("image_head.")]
    assert bool(heads) == expected[0]
    assert heads == [name for name in ours if name.startswith("image_head.")]
    assert all(torch.equal(ours[name], theirs[name]) for name in heads)
    assert torch.equal(ours["backbone.cv_embed"], theirs["backbone.cv_embed"])
    if expected[:3] == (True, True, "simclr"):
        assert (cfg.SVLL.PROJECTOR_HIDDEN_WIDTH, cfg.SVLL.PROJECTOR_OUTPUT_WIDTH) == (32, 8)
