"""Learned prompts: a few token embeddings per identity inside a fixed text, and their features (Li et al. 2023)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.modeling.clip import CLIPTextEncoder, KeysAndValues, TokenizedTemplate


class IdentityPrompts(nn.Module):
    """For every identity the template's token embeddings with its own learned vectors at the placeholders.

    template: its tokens, and where the M placeholders and the end-of-text token stand. vocabulary: float [tokens,
    width], of which the template's rows are kept. The learned table [C, M, width] starts at N(0, std).
    """

    def __init__(self, template: TokenizedTemplate, vocabulary: Tensor, num_identities: int, std: float = 0.02):
        super().__init__()
        self.register_buffer("token_ids", template.token_ids.clone())
        self.register_buffer("template", vocabulary[template.token_ids].detach().clone())
        self.register_buffer("learned", torch.tensor(template.learned), persistent=False)
        self.prefix_length, self.end = template.learned[0], template.end
        self.table = nn.Parameter(torch.empty(num_identities, len(template.learned), vocabulary.shape[1]))
        nn.init.normal_(self.table, std=std)

    @property
    def num_identities(self) -> int:
        return len(self.table)

    @property
    def prefix(self) -> Tensor:
        """The tokens before the first placeholder, [P, width]."""
        return self.template[: self.prefix_length]

    def forward(self, identities: Tensor) -> Tensor:
        """Embedded prompts [U, L, width] of the identities, int64 [U]."""
        prompts = self.template.expand(len(identities), -1, -1)
        return prompts.index_copy(1, self.learned, self.table[identities])

    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The state without what was learned inside of another text, and a note that says so."""
        saved = state.get("token_ids")
        if saved is None or torch.equal(saved.cpu(), self.token_ids.cpu()):
            return dict(state), []
        own = {"token_ids": self.token_ids.clone(), "template": self.template.clone()}
        return own, ["the prompts were learned inside of another text than this config's template; they start anew"]

    def behind_prefix(self, identities: Tensor) -> Tensor:
        """The same from the first placeholder to the end-of-text token, [U, n, width]."""
        tokens = self.template[self.prefix_length : self.end + 1].expand(len(identities), -1, -1)
        return tokens.index_copy(1, self.learned - self.prefix_length, self.table[identities])


class PromptedTextEncoder(nn.Module):
    """Text features of identities: their prompts through a frozen text encoder.

    With a causal tower read at end-of-text only the tokens from the first placeholder to the end are computed; the
    keys and values of those before are the same for all identities and known (until weights are loaded through this
    module, or it is moved). Other towers take the plain way.
    """

    def __init__(self, prompts: IdentityPrompts, encoder: CLIPTextEncoder):
        super().__init__()
        self.prompts, self.encoder = prompts, encoder
        self._prefix: list[KeysAndValues] | None = None

    def forward(self, identities: Tensor) -> Tensor:
        """Features [U, D] of the identities, int64 [U]; the gradient reaches the prompts' table."""
        if not self.encoder.reads_end_causally:
            return self.encoder(self.prompts(identities), self.prompts.end)
        if self._prefix is None:
            self._prefix = self.encoder.encode_prefix(self.prompts.prefix)
        return self.encoder.encode_behind(self.prompts.behind_prefix(identities), self._prefix)

    @property
    def num_read_tokens(self) -> int:
        """How many tokens of a prompt, from its first on, can reach its feature."""
        return self.prompts.end + 1 if self.encoder.reads_end_causally else self.encoder.context_length

    def encode(self, prompts: Tensor) -> Tensor:
        """Features [B, D] of embedded prompts [B, n, width], read where the template ends.

        Any of their tokens may have been changed, so nothing is known beforehand; of the n tokens, `num_read_tokens` or
        more, those behind are not computed.
        """
        if not self.encoder.reads_end_causally:
            return self.encoder(prompts, self.prompts.end)
        return self.encoder.encode_behind(prompts[:, : self.num_read_tokens])

    @torch.no_grad()
    def all_features(self, batch_size: int = 256) -> Tensor:
        """Features of every identity, float32 [C, D], in full precision and without gradient."""
        device = self.prompts.table.device
        identities = torch.arange(self.prompts.num_identities, device=device)
        with torch.autocast(device.type, enabled=False):
            return torch.cat([self(part) for part in identities.split(batch_size)])

    def _apply(self, *arguments: Any, **options: Any) -> "PromptedTextEncoder":
        self._prefix = None  # belongs to another device or type from here on
        return super()._apply(*arguments, **options)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._prefix = None  # belongs to other weights from here on
        super()._load_from_state_dict(*arguments, **options)
