"""Claim: a step of prompt tuning is at least 8 times faster than the plain one, with the same losses and gradients.

Ours: the text encoder runs once per distinct identity of the batch, over the tokens from the first learned one to
end-of-text, behind keys and values that are known. Plain: one prompt per image, all tokens of the context. Both with
frozen weights, the same loss, optimiser and batches (images in random order), in this process and taking turns. The
published program also computes the gradients of the text encoder's weights, which nothing uses: printed as `published`.

    python benchmarks/prompt_stage.py                      # ViT-B/16's text tower, batch 64 of 751 identities
    python benchmarks/prompt_stage.py --architecture ViT-L-14-quickgelu --device cuda
"""

import argparse
import itertools
from collections.abc import Callable

import torch
from common import DTYPES, best_times, matrix_rate, print_json
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from reid_core.data.feature_loader import FeatureLoader
from reid_core.engine.step import to_device
from reid_core.modeling.clip import build_text_encoder, tokenize_template
from reid_core.modeling.losses import supervised_contrastive_loss
from reid_core.modeling.prompts import IdentityPrompts, PromptedTextEncoder
from reid_core.structures import Batch

TEMPLATE = "A photo of a X X X X person."
IMAGES_PER_IDENTITY = 17  # Market-1501: 12936 images of 751 identities


def build_text_side(architecture: str, identities: int, device: torch.device) -> PromptedTextEncoder:
    torch.manual_seed(0)
    template = tokenize_template(TEMPLATE, architecture)
    encoder, vocabulary = build_text_encoder(architecture)
    prompts = IdentityPrompts(template, vocabulary, identities)
    return PromptedTextEncoder(prompts, encoder).to(device)


def our_features(text: PromptedTextEncoder, batch: Batch) -> Tensor:
    return text(batch["identities"])[batch["slots"]]


def plain_features(text: PromptedTextEncoder, batch: Batch) -> Tensor:
    return text.encoder(text.prompts(batch["targets"]), text.prompts.end)


def make_step(
    text: PromptedTextEncoder,
    features: Callable[[PromptedTextEncoder, Batch], Tensor],
    batches: list[Batch],
    dtype: torch.dtype,
    weights: bool = False,
) -> Callable[[], None]:
    """weights: the text encoder's weights get gradients too, as in the published program."""
    optimizer = torch.optim.Adam([text.prompts.table], lr=3.5e-4, weight_decay=1e-4)
    turn = iter(range(1 << 30))

    def run() -> None:
        batch = batches[next(turn) % len(batches)]
        text.encoder.requires_grad_(weights)
        with torch.autocast(batch["features"].device.type, dtype, enabled=dtype != torch.float32):
            texts = features(text, batch)
            images, targets = batch["features"], batch["targets"]
            loss = supervised_contrastive_loss(images, texts, targets, targets)
            loss = loss + supervised_contrastive_loss(texts, images, targets, targets)
        text.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def largest_difference(text: PromptedTextEncoder, batch: Batch) -> float:
    """Between both ways' gradients of the table, relative to the largest entry, in float32."""
    gradients = []
    for features in (our_features, plain_features):
        texts, targets = features(text, batch), batch["targets"]
        loss = supervised_contrastive_loss(batch["features"], texts, targets, targets)
        loss = loss + supervised_contrastive_loss(texts, batch["features"], targets, targets)
        gradients += torch.autograd.grad(loss, text.prompts.table)
    return float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-16-quickgelu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--identities", type=int, default=751)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    text = build_text_side(arguments.architecture, arguments.identities, device)
    loader = FeatureLoader(torch.arange(arguments.identities).repeat(IMAGES_PER_IDENTITY), arguments.batch)
    loader.set_features(torch.randn(len(loader.targets), text.encoder.projected_width, device=device))
    batches = [to_device(batch, device) for batch in itertools.islice(loader.epoch(0), 16)]
    results = {
        "architecture": arguments.architecture,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "batch": arguments.batch,
        "distinct_identities": sum(len(batch["identities"]) for batch in batches) / len(batches),
        "tokens": text.prompts.end + 1 - text.prompts.prefix_length,
        "gradient_difference": largest_difference(text, batches[0]),
    }
    ways = {"plain": (plain_features, False), "ours": (our_features, False), "published": (plain_features, True)}
    flops = {}
    for name, (features, weights) in ways.items():
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            make_step(text, features, batches, torch.float32, weights)()
        flops[name] = counter.get_total_flops()
        results[f"{name}_gflop"] = flops[name] / 1e9
    print(
        f"{results['architecture']}, {results['device']}, {results['threads']} threads, batch {arguments.batch}: "
        f"{results['distinct_identities']:.1f} distinct identities, {results['tokens']} tokens of "
        f"{text.encoder.context_length}; gradients differ by {results['gradient_difference']:.1e}"
    )
    print(f"{'':20}{'ms/step':>10}{'GFLOP':>10}{'of mm':>8}")
    for label, dtype in DTYPES.items():
        rate = matrix_rate(dtype, device)
        steps = {name: make_step(text, way, batches, dtype, weights) for name, (way, weights) in ways.items()}
        seconds = best_times(steps, arguments.repeats)
        for name, duration in seconds.items():
            share = flops[name] / duration / rate
            results[f"{label}_{name}_ms"] = 1e3 * duration
            results[f"{label}_{name}_share_of_matrix_rate"] = share
            print(f"{label} {name}".ljust(20) + f"{1e3 * duration:10.1f}{flops[name] / 1e9:10.1f}{share:8.0%}")
        results[f"{label}_ratio"] = seconds["plain"] / seconds["ours"]
        results[f"{label}_ratio_to_published"] = seconds["published"] / seconds["ours"]
        print(
            f"{label} ratio".ljust(20) + f"{results[f'{label}_ratio']:10.1f} to the plain step, "
            f"{results[f'{label}_ratio_to_published']:.1f} to the published one"
        )
    print_json(results)


if __name__ == "__main__":
    main()
