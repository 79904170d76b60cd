"""The authors' checkpoints, of stage 1 or 2, as ours: their names, and the text features that theirs do not save."""

from collections.abc import Mapping

import torch
from torch import Tensor

from projects.CLIP_ReID.model import CLIPReID
from reid_core.modeling.conversion import BaselineConverter, ConversionError
from reid_core.registry import CONVERTER_REGISTRY

_PREFIX, _SUFFIX = "prompt_learner.token_prefix", "prompt_learner.token_suffix"
_TEMPLATE, _TABLE = "text.prompts.template", "text.prompts.table"


@CONVERTER_REGISTRY.register(name="CLIPReID")
class CLIPReIDConverter(BaselineConverter):
    """The baseline's names, `text_encoder.X` and `prompt_learner.X`.

    The text features are computed from the converted prompts and text encoder; these are then dropped, as after stage
    1, unless CLIP_REID.KEEP_TEXT is on.
    """

    names = (
        *BaselineConverter.names,
        (r"text_encoder\.(.+)", r"text.encoder.\1"),
        (r"prompt_learner\.cls_ctx", _TABLE),
        (r"prompt_learner\.token_(?:prefix|suffix)", _TEMPLATE),
    )
    own = (
        *BaselineConverter.own,
        (r"text\.prompts\.token_ids", "tokens of this config's template: the source has them embedded"),
        (r"text_features", "0: no prompts to compute it from, train them (stage 1)"),
    )

    def combine(self, source: Mapping[str, Tensor], model: CLIPReID) -> dict[str, tuple[list[str], Tensor]]:
        if model.text is None or _PREFIX not in source or _SUFFIX not in source:
            return {}
        prompts = model.text.prompts
        before, behind = (source[name].flatten(0, -2) for name in (_PREFIX, _SUFFIX))  # [1, n, width] in the source
        if len(before) != prompts.prefix_length:
            raise ConversionError(
                f"The source's prompts have {len(before)} tokens before the learned ones, those of this config "
                f"(CLIP_REID.TEMPLATE) {prompts.prefix_length}: set the template that it was trained with."
            )
        learned = before.new_zeros(prompts.table.shape[1:])  # nothing reads these rows of a template
        return {_TEMPLATE: ([_PREFIX, _SUFFIX], torch.cat([before, learned, behind]))}

    def finish(self, model: CLIPReID, brought: set[str]) -> dict[str, str]:
        if _TABLE not in brought:
            model.release_temporary()
            return {}
        model.fix_text_features()
        return {"text_features": "computed from the prompts and the text encoder"}
