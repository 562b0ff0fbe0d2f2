"""Compare gradients of whole networks with torch's in float64.

For each network: the error of onnxsmith's gradients on the runtime and of torch's, both in float32,
of all parameters together and of the parameter where it is largest. Batch normalization uses the
batch. In deep networks elements lie so near a Relu's corner that rounding puts them on the other
side than float64 does, with either: the reference of a side is float64 on the pieces that the side
itself took (``sources/corners.py``). The error against plain float64 is printed beside, with how
many elements were on the other side. All figures are medians over several inputs; a network is far
off where one input of it is.

    python benchmarks/gradients.py [--all] [--seeds 10] [--network NAME]...

``--all`` adds torchvision's and transformers' own networks, and needs both.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from sources.gradient_errors import Comparison, Errors
from sources.gradient_nets import Case, of_torchvision, of_transformers, small

SMALL = ("cnn", "unet", "lstm", "vit", "decoder")
TORCHVISION = (
    "resnet18", "mobilenet_v2", "mobilenet_v2 with SiLU", "densenet121", "densenet121 with SiLU",
)  # fmt: skip
TRANSFORMERS = ("bert", "gpt2")


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    every = (*SMALL, *TORCHVISION, *TRANSFORMERS)
    parser.add_argument("--network", action="append", choices=every)
    arguments = parser.parse_args()
    print(f"{'':22} {'own pieces':^19}   {'worst parameter':^19}   {'plain float64':^19}   turned")
    print(f"{'network':22}" + "   ".join([f" {'ours':>8} {'torch':>8} "] * 3) + "   ours torch")
    for name in arguments.network or (every if arguments.all else SMALL):
        network, x = case(name)
        with Comparison(network, x) as comparison:
            found = [comparison.errors(other(x, seed)) for seed in range(arguments.seeds)]
        print(row(name, found), flush=True)


def case(name: str) -> Case:
    """Return a network and an input of its."""
    if name in SMALL:
        return small(name)
    return of_transformers(name) if name in TRANSFORMERS else of_torchvision(name)


def other(x: torch.Tensor, seed: int) -> torch.Tensor:
    """Return another input of the same shape: images of noise, or the words in another order."""
    draw = torch.Generator().manual_seed(100 + seed)
    if x.is_floating_point():
        return torch.randn(x.shape, generator=draw)
    return x.flatten()[torch.randperm(x.numel(), generator=draw)].view(x.shape)


def row(name: str, found: list[Errors]) -> str:
    """Return a line of the table."""
    line = f"{name:22}"
    for part in ("whole", "worst", "plain"):
        pairs = [getattr(errors, part) for errors in found]
        middles = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        line += " " + " ".join(f"{middle:8.1e}" for middle in middles) + "    "
    turned = [statistics.median(errors.turned[side] for errors in found) for side in (0, 1)]
    line += "  " + " ".join(f"{count:4.0f}" for count in turned)
    return line if all(errors.ok for errors in found) else line + "   TOO FAR"


if __name__ == "__main__":
    main()
