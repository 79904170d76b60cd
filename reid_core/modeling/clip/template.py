"""Prompt templates: text in which every word X stands for a learned vector, as tokens of an architecture."""

import re
from typing import NamedTuple

import open_clip
from torch import Tensor

from reid_core.config import ConfigError
from reid_core.modeling.clip.model import read_architecture

PLACEHOLDER = "X"
_WORD = re.compile(rf"(?<!\S){PLACEHOLDER}(?=$|[\s.,;:!?])")


class TokenizedTemplate(NamedTuple):
    """token_ids: int64 [L], padded to the context. learned: positions of the placeholders, rising. end: position of
    the end-of-text token."""

    token_ids: Tensor
    learned: tuple[int, ...]
    end: int


def build_tokenizer(architecture: str) -> open_clip.SimpleTokenizer:
    """The architecture's tokeniser: texts -> int64 [B, L]; longer texts are cut. Raises ValueError for tokenisers that
    are not open_clip's own."""
    text = read_architecture(architecture)["text_cfg"]
    if text.get("hf_tokenizer_name"):
        raise ValueError(
            f"The tokeniser of '{architecture}' is '{text['hf_tokenizer_name']}' of Hugging Face; texts are tokenised "
            "by open_clip's own only."
        )
    options = text.get("tokenizer_kwargs") or {}
    return open_clip.SimpleTokenizer(context_length=text.get("context_length", 77), **options)


def tokenize_template(template: str, architecture: str) -> TokenizedTemplate:
    """Tokenise "A photo of a X X X X person." with the architecture's tokeniser.

    Every word X, alone between spaces or before a punctuation mark, is a placeholder. Raises ConfigError for a
    template without one or longer than the context, ValueError for tokenisers that are not open_clip's own.
    """
    tokenizer = build_tokenizer(architecture)
    context = tokenizer.context_length
    pieces = _WORD.split(template)
    if len(pieces) == 1:
        raise ConfigError(
            f"The prompt template '{template}' has no word {PLACEHOLDER}, so nothing would be learned. Put one for "
            f'each learned token, such as "A photo of a {PLACEHOLDER} {PLACEHOLDER} dog."'
        )
    tokens, learned = [tokenizer.sot_token_id], []
    for number, piece in enumerate(pieces):
        if number:
            learned.append(len(tokens))
            tokens += tokenizer.encode(PLACEHOLDER)
        tokens += tokenizer.encode(piece)
    tokens.append(tokenizer.eot_token_id)
    if len(tokens) > context:
        raise ConfigError(
            f"The prompt template '{template}' has {len(tokens)} tokens with the start and the end, {architecture} "
            f"reads {context}; shorten it or take fewer {PLACEHOLDER}."
        )
    ids = tokenizer([template])[0]
    if ids[: len(tokens)].tolist() != tokens:
        raise ConfigError(f"The words around the {PLACEHOLDER} of '{template}' merge with it; put spaces around it.")
    return TokenizedTemplate(ids, tuple(learned), len(tokens) - 1)
