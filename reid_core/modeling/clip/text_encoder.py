"""open_clip's text tower behind its token embedding: embedded tokens to features in the space shared with images."""

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from reid_core.modeling.clip.blocks import KeysAndValues, run_causal_block
from reid_core.modeling.clip.model import read_architecture
from reid_core.modeling.clip.weights import load_clip_weights
from reid_core.utils.logging import get_logger

_PARTS = ("transformer.", "positional_embedding", "ln_final.", "text_projection")
_VOCABULARY = "token_embedding.weight"


class CLIPTextEncoder(nn.Module):
    """The text tower of an open_clip model, frozen; parameters under OpenAI's names.

    model: open_clip's `CLIP`; it gives up its text modules. width: of an embedded token. projected_width: D of the
    feature. context_length: L, tokens of a text. reads_end_causally: a token depends on those before it alone and the
    feature is read at the end-of-text token, so that later tokens cannot change it (all of OpenAI's towers).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.transformer, self.ln_final = model.transformer, model.ln_final
        self.positional_embedding, self.text_projection = model.positional_embedding, model.text_projection
        self.register_buffer("attn_mask", model.attn_mask, persistent=False)
        self.pool_type = model.text_pool_type
        self.context_length, self.width = self.positional_embedding.shape
        self.projected_width = _output_width(self.text_projection, self.width)
        blocks = self.transformer.resblocks
        self.reads_end_causally = (
            self.attn_mask is not None
            and self.pool_type in ("argmax", "eos")
            and all(isinstance(block, ResidualAttentionBlock) for block in blocks)
        )
        self.requires_grad_(False)

    def forward(self, prompts: Tensor, end: int) -> Tensor:
        """Features [B, D] of embedded texts, float [B, L, width] without positions: the plain computation.

        end: position of the end-of-text token, where towers read that do not read their first or last token.
        Raises ValueError for texts of another length than the context.
        """
        if prompts.shape[1] != self.context_length:
            raise ValueError(f"Embedded texts have {prompts.shape[1]} tokens, the context {self.context_length}.")
        tokens = self.transformer(prompts + self.positional_embedding, attn_mask=self.attn_mask)
        place = {"first": 0, "last": -1}.get(self.pool_type, end)
        return self._project(tokens[:, place])

    def encode_prefix(self, prefix: Tensor) -> list[KeysAndValues]:
        """What later tokens read of the first ones in every block. prefix: [P, width], P at least 1, no positions.

        Without gradient and in full precision. Raises TypeError as `encode_behind`.
        """
        self._require_causal()
        tokens = (prefix + self.positional_embedding[: len(prefix)])[None]
        known = []
        with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False):
            for block in self.transformer.resblocks:
                tokens, own = run_causal_block(block, tokens)
                known.append(own)
        return known

    def encode_behind(self, tokens: Tensor, prefix: Sequence[KeysAndValues] | None = None) -> Tensor:
        """Features [B, D] read at the last of the tokens, float [B, n, width], that stand behind the prefix.

        The same as `forward` with end = P + n - 1 and whatever tokens behind that. Raises TypeError for a tower in
        which later tokens change the feature (see `reads_end_causally`).
        """
        self._require_causal()
        start = prefix[0].keys.shape[2] if prefix else 0
        tokens = tokens + self.positional_embedding[start : start + tokens.shape[1]]
        blocks = self.transformer.resblocks
        for number, block in enumerate(blocks):
            last_alone = slice(-1, None) if number == len(blocks) - 1 else None
            tokens, _ = run_causal_block(block, tokens, prefix[number] if prefix else None, last_alone)
        return self._project(tokens[:, -1])

    def _project(self, token: Tensor) -> Tensor:
        token = self.ln_final(token)
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection(token)
        return token if self.text_projection is None else token @ self.text_projection

    def _require_causal(self) -> None:
        if not self.reads_end_causally:
            raise TypeError("This text tower is not causal or not read at end-of-text; call forward with whole texts.")


def build_text_encoder(architecture: str, pretrained: str = "") -> tuple[CLIPTextEncoder, Tensor]:
    """The text encoder of an architecture and its table of token embeddings, float [vocabulary, width].

    The table is apart from the encoder because a few rows of it are all that fixed templates need. architecture,
    pretrained: as `CLIPImageBackbone` takes them. Raises ValueError for towers that are not open_clip's own text
    transformer and for weights without a text tower.
    """
    config = read_architecture(architecture)
    _refuse_foreign_towers(architecture, config["text_cfg"])
    # open_clip builds whole models only: give it an image tower of next to nothing, and keep the text tower
    vision = {"layers": 1, "width": 8, "head_width": 8, "patch_size": 8, "image_size": 8}
    model = open_clip.CLIP(
        config["embed_dim"], vision, config["text_cfg"], quick_gelu=config.get("quick_gelu", False)
    )
    encoder, vocabulary = CLIPTextEncoder(model), model.token_embedding.weight.detach()
    if pretrained:
        weights = load_clip_weights(pretrained, architecture)
        if _VOCABULARY not in weights:
            raise ValueError(f"'{pretrained}' holds no text tower (no {_VOCABULARY}), which prompts need.")
        encoder.load_state_dict({name: value for name, value in weights.items() if name.startswith(_PARTS)})
        vocabulary = weights[_VOCABULARY]
        get_logger().info("Loaded the text tower of %s into %s.", pretrained, architecture)
    return encoder, vocabulary


def _refuse_foreign_towers(architecture: str, text: dict[str, Any]) -> None:
    problem = ""
    if text.get("hf_model_name"):
        problem = f"is '{text['hf_model_name']}' of Hugging Face"
    elif text.get("embed_cls"):
        problem = "reads a class token behind the text"
    if problem:
        raise ValueError(
            f"The text tower of '{architecture}' {problem}; prompts need open_clip's own text transformer read at one "
            "of its tokens, as in ViT-B-16-quickgelu, ViT-L-14-quickgelu or RN50-quickgelu."
        )


def _output_width(projection: nn.Parameter | nn.Linear | None, width: int) -> int:
    if projection is None:
        return width
    return projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]
