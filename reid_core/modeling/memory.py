"""The prototype bank: one unit vector per identity (or cluster, or proxy), rebuilt at times and updated each step.

Cluster memory of Cluster-Contrast (arXiv 2103.11568, section 3.2) and of prototypical contrastive learning for CLIP
(arXiv 2310.17218, section 3.3). The updates use shapes known beforehand and gather-scatter only: no loop over samples
and no wait for the device.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UPDATE_RULES = ("plain", "hard")


class PrototypeBank(nn.Module):
    """Buffers `prototypes` [C, D] float32, unit rows, saved with the model that owns the bank.

    momentum: share of the old prototype kept at an update, in [0, 1]. update_rule: "plain" mixes in every sample in
    batch order, "hard" only the least similar sample of each identity.
    Raises ValueError for a momentum or a rule that is not one of these.
    """

    def __init__(self, num_prototypes: int, width: int, momentum: float, update_rule: str):
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}.")
        if update_rule not in UPDATE_RULES:
            raise ValueError(f"update_rule must be one of {', '.join(UPDATE_RULES)}, got '{update_rule}'.")
        self.momentum, self.update_rule = momentum, update_rule
        self.prototypes: Tensor
        self.register_buffer("prototypes", torch.zeros(num_prototypes, width))

    @torch.no_grad()
    def rebuild(self, features: Tensor, targets: Tensor) -> None:
        """Every prototype becomes the normalised mean of its features. Sample order does not matter.

        features: [N, D] float, as they are to be averaged. targets: [N] int64 in [0, C), -1 is left out.
        Raises ValueError, and changes nothing, if an identity has no feature or its features average to zero.
        """
        self.prototypes.copy_(prototype_means(features, targets, self.prototypes.shape[0]))

    @torch.no_grad()
    def update(self, features: Tensor, targets: Tensor, occurrences: int | None = None) -> None:
        """Mix the batch into its identities' prototypes: p <- normalise(m * p + (1 - m) * f).

        features: [B, D] float, unit norm. targets: [B] int64 in [0, C). occurrences: an upper bound of how often
        one identity stands in the batch (K of the P x K sampler), needed by the plain rule alone; None counts them,
        which waits for the device.
        """
        features = features.detach().to(self.prototypes.dtype)
        if self.update_rule == "hard":
            self._update_hard(features, targets)
        else:
            self._update_plain(features, targets, occurrences)

    def _update_hard(self, features: Tensor, targets: Tensor) -> None:
        old = self.prototypes[targets]
        similarity = (features * old).sum(dim=1)
        same = targets[:, None] == targets[None, :]
        # The first of the least similar samples of the identity; argmin over a masked row gives the first minimum.
        hardest = similarity[None, :].masked_fill(~same, float("inf")).argmin(dim=1)
        mixed = self.momentum * old + (1 - self.momentum) * features[hardest]
        # Samples of one identity write the same row with the same values: their order cannot matter.
        self.prototypes[targets] = F.normalize(mixed, dim=1)

    def _update_plain(self, features: Tensor, targets: Tensor, occurrences: int | None) -> None:
        same = targets[:, None] == targets[None, :]
        turn = same.tril(-1).sum(dim=1)  # how many samples of the same identity come before this one
        if occurrences is None:
            occurrences = int(turn.max()) + 1 if len(turn) else 0
        else:
            torch._assert_async((turn < occurrences).all(), "an identity occurs more often than `occurrences`")
        for current in range(occurrences):
            # Identities of another turn write back what stands there: every row is written by its own turn's
            # sample or kept, and no shape depends on the data.
            chosen = same.masked_fill((turn != current)[None, :], False)
            source = chosen.to(torch.uint8).argmax(dim=1)
            old = self.prototypes[targets]
            mixed = F.normalize(self.momentum * old + (1 - self.momentum) * features[source], dim=1)
            self.prototypes[targets] = torch.where(chosen.any(dim=1, keepdim=True), mixed, old)


class ResizableBank(PrototypeBank):
    """A bank whose number of prototypes is known only when it is rebuilt: clusters, proxies. Empty until then.

    Loading a checkpoint gives it the checkpoint's number.
    """

    def __init__(self, width: int, momentum: float, update_rule: str):
        super().__init__(0, width, momentum, update_rule)

    @torch.no_grad()
    def rebuild(self, features: Tensor, targets: Tensor) -> None:
        """As PrototypeBank, with one prototype for each of the labels 0..C-1 that occur; C is the largest + 1."""
        means = prototype_means(features, targets, int(targets.max()) + 1)
        self.prototypes = means.to(self.prototypes)

    def adapt_state_dict(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Makes room for the prototypes of a checkpoint; called before it is loaded."""
        saved = state.get("prototypes")
        if saved is not None and saved.shape[1:] == self.prototypes.shape[1:]:
            self.prototypes = self.prototypes.new_zeros(saved.shape)
        return state, []


def prototype_means(features: Tensor, targets: Tensor, num_prototypes: int) -> Tensor:
    """Normalised means of the rows of each target: [N, D], [N] -> [C, D] float32. Target -1 is left out.

    Summed in float64, so that the result does not depend on how the rows were split over processes.
    Raises ValueError if a target has no row, or rows that average to zero.
    """
    kept = targets >= 0
    features, targets = features[kept].double(), targets[kept]
    sums = features.new_zeros(num_prototypes, features.shape[1]).index_add_(0, targets, features)
    counts = torch.bincount(targets, minlength=num_prototypes)
    norms = sums.norm(dim=1)
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"{len(empty)} of {num_prototypes} prototypes have no image (labels {empty[:10]}); "
            "labels must be 0..C-1 without gaps."
        )
    vanished = (norms < 1e-12).nonzero().flatten().tolist()
    if vanished:
        raise ValueError(f"The features of labels {vanished[:10]} average to zero: no direction to normalise.")
    return F.normalize(sums / counts[:, None], dim=1).float()
