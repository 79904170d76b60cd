"""PCL-CLIP: CLIP fine-tuned for ReID with a prototypical contrastive loss alone (arXiv 2310.17218).

Registers: the meta-architecture `PrototypeContrastiveCLIP`, the heads `ConcatenatedBNNeckHeads` and the hook
`PrototypeMemoryHook`. Its patch projection is frozen by `MODEL.BACKBONE.FREEZE: ["conv1"]` in its configs.
"""

from projects.PCL_CLIP.config import add_config
from projects.PCL_CLIP.heads import ConcatenatedBNNeckHeads
from projects.PCL_CLIP.memory_hook import PrototypeMemoryHook
from projects.PCL_CLIP.model import PrototypeContrastiveCLIP

__all__ = ["ConcatenatedBNNeckHeads", "PrototypeContrastiveCLIP", "PrototypeMemoryHook", "add_config"]
