"""Compare gradients of whole networks with torch's in float64.

For each network: the error of onnxsmith's gradients on the runtime and of torch's, both in float32,
of all parameters together and of the parameter where it is largest. Batch normalization uses the
batch. In deep networks an element may lie so near a Relu's corner that rounding puts it on the
other side, on either side of the comparison: several inputs are drawn, and the best of each counts;
the same networks with smooth activations tell such elements from a wrong rule.

    python benchmarks/gradients.py [--all]

``--all`` adds torchvision's and transformers' own networks, and needs both.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from sources.gradient_nets import Case, Errors, compare, of_torchvision, of_transformers, small

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
    arguments = parser.parse_args()
    print(f"{'network':22} {'ours':>9} {'torch':>9}   {'worst parameter':>20}")
    for name, cases in networks(arguments.all, arguments.seeds):
        found = best([compare(*case) for case in cases])
        verdict = "" if found.ok else "   TOO FAR"
        worst = f"{found.worst[0]:9.1e} {found.worst[1]:9.1e}"
        print(f"{name:22} {found.ours:9.1e} {found.torch:9.1e}   {worst}{verdict}", flush=True)


def networks(every: bool, seeds: int) -> Iterator[tuple[str, list[Case]]]:
    """Yield the networks, each with several inputs."""
    for name in SMALL:
        yield name, [small(name, seed) for seed in range(seeds)]
    for name in TORCHVISION if every else ():
        yield name, [of_torchvision(name, seed) for seed in range(seeds)]
    for name in TRANSFORMERS if every else ():
        yield name, [of_transformers(name, seed) for seed in range(seeds)]


def best(found: list[Errors]) -> Errors:
    """Return the smallest error of each side."""
    return Errors(
        min(errors.ours for errors in found),
        min(errors.torch for errors in found),
        (min(e.worst[0] for e in found), min(e.worst[1] for e in found)),
        found[0].parameters,
    )


if __name__ == "__main__":
    main()
