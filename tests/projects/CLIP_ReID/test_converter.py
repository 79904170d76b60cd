"""The authors' checkpoints with a text side: text features are computed, the rest goes the way of our own stage 1."""

import pytest
import torch

from reid_core.inference.conversion import convert_checkpoint
from reid_core.modeling.checkpoint import read_checkpoint
from reid_core.modeling.conversion import ConversionError
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config

NAMES = {
    "backbone.visual.": "image_encoder.",
    "heads.": "",
    "text.encoder.": "text_encoder.",
    "text.prompts.table": "prompt_learner.cls_ctx",
}


@pytest.fixture
def convert(prompts_config, prompts_run, tmp_path):
    """convert(change, ...) -> the checkpoint of a small file under the authors' names, the model that it is of, and
    the report."""

    def make(change=lambda state: None, identities=4, **more):
        cfg = load_config(prompts_config, prompts_run(**more))
        torch.manual_seed(2)
        model = build_model(cfg, "cpu", identities, 2, 1)
        state = {
            theirs + name.removeprefix(ours): value.clone()
            for name, value in model.state_dict().items()
            for ours, theirs in NAMES.items()
            if name.startswith(ours)
        }
        template = model.text.prompts.template
        state["prompt_learner.token_prefix"], state["prompt_learner.token_suffix"] = (
            template[None, :5],
            template[None, 9:],
        )
        change(state)
        torch.save(state, tmp_path / "theirs.pth")
        report = convert_checkpoint(tmp_path / "theirs.pth", tmp_path / "a.pt", cfg, overwrite=True)
        return read_checkpoint(tmp_path / "a.pt")["model"], model, report

    return make


def test_text_features_are_computed_and_the_text_side_is_dropped(convert):
    ours, model, report = convert()
    torch.testing.assert_close(ours["text_features"], model.text.all_features())
    assert not [name for name in ours if name.startswith("text.")]
    fates = {entry.source: entry.note for entry in report.entries}
    assert fates["prompt_learner.cls_ctx"] == "not kept: text.prompts.table has done its work"
    assert "text_features" in {entry.target for entry in report.entries if "computed" in entry.note}


def test_the_text_side_is_kept_on_request(convert):
    ours, model, _ = convert(CLIP_REID__KEEP_TEXT=True)
    theirs = model.state_dict()
    kept = [name for name in theirs if name.startswith("text.") and name != "text.prompts.template"]
    assert kept and all(torch.equal(ours[name], theirs[name]) for name in kept)
    read = [row for row in range(77) if row not in range(5, 9)]  # the others are where the learned vectors go
    assert torch.equal(ours["text.prompts.template"][read], theirs["text.prompts.template"][read])


def test_a_file_without_text_waits_for_stage_one(convert):
    def drop(state):
        for name in [name for name in state if name.startswith(("text_encoder.", "prompt_learner."))]:
            del state[name]

    ours, _, report = convert(drop)
    assert not ours["text_features"].any()
    assert next(entry.note for entry in report.entries if entry.target == "text_features").startswith("0: no prompts")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("prompt_learner.cls_ctx"), r"nothing fills text\.prompts\.table"),
        (lambda state: state.pop("text_encoder.ln_final.bias"), r"nothing fills text\.encoder\.ln_final\.bias"),
        (
            lambda state: state.pop("prompt_learner.token_suffix"),
            r"token_prefix: \[1, 5, 16\], text\.prompts\.template",
        ),
        (
            lambda state: state.update({"prompt_learner.cls_ctx": torch.zeros(4, 3, 16)}),
            r"cls_ctx: \[4, 3, 16\], text\.prompts\.table needs \[4, 4, 16\]",
        ),
        (
            lambda state: state.update({"prompt_learner.cls_ctx": torch.zeros(9, 4, 16)}),
            r"different numbers of identities: .*text\.prompts\.table has 9",
        ),
        (lambda state: state.update({"image_mlp.layer1.bias": torch.zeros(3)}), "image_mlp.* known to no rule"),
    ],
)
def test_what_does_not_fit(convert, change, message):
    with pytest.raises(ConversionError, match=message):
        convert(change)


def test_the_prompt_of_another_template_is_refused(convert):
    def move(state):  # one word less before the learned ones, one more behind
        prefix, suffix = state["prompt_learner.token_prefix"], state["prompt_learner.token_suffix"]
        state["prompt_learner.token_prefix"] = prefix[:, :4]
        state["prompt_learner.token_suffix"] = torch.cat([prefix[:, :1], suffix], dim=1)

    with pytest.raises(ConversionError, match=r"4 tokens before the learned ones.*CLIP_REID\.TEMPLATE.* 5"):
        convert(move)
