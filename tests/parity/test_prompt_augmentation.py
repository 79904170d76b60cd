"""Mixed prompts, built one after another as the authors' program does (ours mixes all of them at once)."""

import importlib

import numpy as np
import pytest
import torch

from reid_core.projects import import_project
from tests.parity import helpers
from tests.paths import ROOT

import_project(ROOT / "projects" / "SVLL_ReID")
augmentation = importlib.import_module("projects.SVLL_ReID.prompt_augmentation")
GOLDEN = helpers.load("model_svll")


def _prompts():
    """Embedded prompts [U, 77, 512] of the identities of the first stage's batch."""
    ids = torch.from_numpy(helpers.load("text_prompt")["ViT_market1501_ids"].astype(np.int64)).flatten()
    embedded = helpers.openai_state_dict("ViT-B-16")["token_embedding.weight"][ids]
    learned = (ids == 343).nonzero().flatten()  # the tokens of the four "X"
    num_identities = GOLDEN["simclr_train_score0"].shape[1]
    shape = (num_identities, len(learned), embedded.shape[1])
    table = torch.from_numpy(helpers.weights_module().extra("prompt_learner.cls_ctx", shape))
    identities = torch.from_numpy(GOLDEN["s1_unique"])
    return embedded.expand(len(identities), -1, -1).index_copy(1, learned, table[identities])


@pytest.mark.parametrize(("scale",), helpers.cases("model_svll", r"s1_mix([\d.]+)_partner"))
def test_mixed_prompts(scale):
    partners = torch.from_numpy(GOLDEN[f"s1_mix{scale}_partner"])
    for view in (1, 2):
        mixed = _prompts()
        for number in range(len(mixed)):
            mixed[number] = augmentation.apply_mix(mixed, partners[:, view - 1], float(scale))[number]
        first = GOLDEN[f"s1_mix{scale}_prompt{view}_first8dims"]
        np.testing.assert_allclose(mixed[:, : first.shape[1], :8].numpy(), first, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(helpers.sums(mixed), GOLDEN[f"s1_mix{scale}_prompt{view}_sums"], rtol=1e-6)
