"""Time and memory of training steps of larger networks, against torch in eager mode.

Four networks: ``mlp`` (784, 128 and 10 units), ``cnn`` (three convolutions, two batch
normalizations, two poolings, 32 x 32 pixels of one channel), ``encoder`` (a transformer block of
width 128 and 4 heads over 64 places, with an embedding and a mean) and ``resnet18`` (on 32 x 32
pixels of three channels). Adam, cross-entropy.

Every side runs in processes of its own, one after the other and again, on one thread; processor
time is compared, which neighbours on a shared machine disturb least. Memory is what the process
holds at most, less what it held before the network was made.

    python benchmarks/train_networks.py [--network cnn]... [--batch 32]... [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sources.sides import medians, take_turns

NETWORKS = ("mlp", "cnn", "encoder", "resnet18")
STEPS = {"mlp": 1000, "cnn": 40, "encoder": 40, "resnet18": 4}
WARM = {"mlp": 20, "cnn": 5, "encoder": 5, "resnet18": 1}
WORDS, LENGTH, WIDTH, HEADS = 64, 64, 128, 4


def main() -> None:
    """Run both sides alternated and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    networks, batches = arguments.network or NETWORKS, arguments.batch or [32, 256]
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](networks[0], batches[0])))
        return
    print("network   batch  onnxsmith ms  torch ms  of torch  onnxsmith MB  torch MB  of torch")
    for network in networks:
        for batch in batches:
            print(row(network, batch, arguments.rounds), flush=True)


def row(network: str, batch: int, rounds: int) -> str:
    """Return a line of the table: medians of each side, and of the rounds' ratios."""
    found = take_turns(__file__, SIDES, network, batch, rounds)
    line = f"{network:9} {batch:5}"
    for figure in ("ms", "mb"):
        ours, theirs, ratio = medians(found, "onnxsmith", "torch", figure)
        line += f"  {ours:12.1f}  {theirs:8.1f}  {ratio:8.2f}"
    return line


def batch_of(network: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up inputs and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, size)
    if network == "encoder":
        return rng.integers(0, WORDS, (size, LENGTH)), labels
    if network == "mlp":
        return rng.random((size, 784), np.float32), labels
    channels = 1 if network == "cnn" else 3
    return rng.random((size, channels, 32, 32), np.float32), labels


def layers(network: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the input and the layers of a network in YAML's form."""
    if network == "mlp":
        return "x:float32[batch,784]", [
            {"type": "dense", "units": 128, "activation": "relu"},
            {"type": "dense", "units": 10},
        ]
    if network == "cnn":
        return "x:float32[batch,1,32,32]", [
            {"type": "conv", "filters": 16, "kernel": 5, "padding": 2},
            {"type": "norm"},
            {"type": "activation", "function": "relu"},
            {"type": "pool"},
            {"type": "conv", "filters": 32, "padding": 1},
            {"type": "norm"},
            {"type": "activation", "function": "relu"},
            {"type": "pool"},
            {"type": "conv", "filters": 64, "padding": 1, "activation": "relu"},
            {"type": "flatten"},
            {"type": "dense", "units": 10},
        ]
    if network == "encoder":
        wide = {"type": "dense", "units": 4 * WIDTH, "activation": "gelu"}
        return f"x:int64[batch,{LENGTH}]", [
            {"type": "embedding", "vocabulary": WORDS, "units": WIDTH, "positions": LENGTH,
             "name": "words"},
            {"type": "attention", "heads": HEADS, "name": "attended"},
            {"type": "add", "inputs": ["words", "attended"]},
            {"type": "norm", "mode": "layer", "name": "first"},
            wide,
            {"type": "dense", "units": WIDTH, "name": "narrow"},
            {"type": "add", "inputs": ["first", "narrow"]},
            {"type": "norm", "mode": "layer"},
            {"type": "mean"},
            {"type": "dense", "units": 10},
        ]  # fmt: skip
    return "x:float32[batch,3,32,32]", residual_layers()


def residual_layers() -> list[dict[str, Any]]:
    """Return ResNet-18 for small images: no pooling in front."""

    def conv(filters: int, kernel: int, stride: int, **more: Any) -> dict[str, Any]:
        return {"type": "conv", "filters": filters, "kernel": kernel, "stride": stride,
                "padding": kernel // 2, "bias": False, **more}  # fmt: skip

    relu = {"type": "activation", "function": "relu"}
    found = [conv(64, 3, 1), {"type": "norm"}, {**relu, "name": "start"}]
    last = "start"
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            found += [
                conv(filters, 3, stride, inputs=[last]), {"type": "norm"}, relu,
                conv(filters, 3, 1), {"type": "norm", "name": f"{name}n"},
            ]  # fmt: skip
            if stride == 2:
                found.append(conv(filters, 1, 2, inputs=[last]))
                found.append({"type": "norm", "name": f"{name}d"})
                last = f"{name}d"
            found.append({"type": "add", "inputs": [f"{name}n", last]})
            found.append({**relu, "name": name})
            last = name
    return [*found, {"type": "pool", "mode": "global-average"}, {"type": "dense", "units": 10}]


def run_onnxsmith(network: str, size: int, recompute: tuple[str, ...] = ()) -> dict[str, float]:
    """Return milliseconds a step and megabytes, on the plain runtime."""
    from onnxsmith.passes.autodiff.training_form import train_batch_norm
    from onnxsmith.pipeline.frontends.layers.description import Network, build
    from onnxsmith.pipeline.training.forms import content
    from onnxsmith.pipeline.training.graphs import (
        GradientOptions,
        float_parameters,
        gradient_graph,
    )
    from onnxsmith.pipeline.training.losses.table import make_loss
    from onnxsmith.pipeline.training.optimizers.table import make_optimizer
    from onnxsmith.pipeline.training.stepper import StepOptions, Stepper

    x, labels = batch_of(network, size)
    before = held()
    source, described = layers(network)
    artifact = build(Network.model_validate({"inputs": [source], "layers": described}))
    start = {n: content(v).copy() for n, v in artifact.model.graph.initializers.items()}
    remembered = train_batch_norm(artifact.model)
    names = [name for name in float_parameters(artifact.model) if name not in remembered]
    how = GradientOptions(recompute=recompute)
    graph = gradient_graph(artifact, names, make_loss("cross-entropy"), None, remembered, how)
    parameters = {name: start[name] for name in graph.gradients}
    kept = {name: start[name] for name in remembered}
    options = StepOptions(make_optimizer("adam"), threads=1)
    del start, artifact
    with Stepper(graph, parameters, kept, options) as stepper:
        del parameters, kept

        def step() -> None:
            stepper.gradient({"x": x}, labels)
            stepper.update(1e-3)

        return {"ms": timed(network, size, step), "mb": peak() - before}


def run_torch(network: str, size: int) -> dict[str, float]:
    """Return milliseconds a step and megabytes, of torch in eager mode."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    x, labels = (torch.from_numpy(array) for array in batch_of(network, size))
    before = held()
    model = torch_network(network)
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return {"ms": timed(network, size, step), "mb": peak() - before}


def torch_network(network: str) -> Any:
    """Return the same network as a module."""
    from torch import nn

    if network == "mlp":
        return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    if network == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 10),
        )  # fmt: skip
    if network == "resnet18":
        return torch_resnet(nn)

    class Encoder(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(WORDS, WIDTH)
            self.places = nn.Parameter(0.05 * nn.init.normal_(nn.Parameter(
                self.words.weight.new_zeros(LENGTH, WIDTH))))  # fmt: skip
            self.attended = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
            self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
            self.head = nn.Linear(WIDTH, 10)

        def forward(self, ids: Any) -> Any:
            x = self.words(ids) + self.places
            x = self.first(x + self.attended(x, x, x, need_weights=False)[0])
            x = self.second(x + self.narrow(nn.functional.gelu(self.wide(x))))
            return self.head(x.mean(1))

    return Encoder()


def torch_resnet(nn: Any) -> Any:
    """Return ResNet-18 for small images as a module."""

    class Block(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self, before: int, filters: int, stride: int) -> None:
            super().__init__()
            self.one = nn.Conv2d(before, filters, 3, stride, 1, bias=False)
            self.two = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(filters), nn.BatchNorm2d(filters)
            self.short = nn.Sequential()
            if stride == 2:
                self.short = nn.Sequential(
                    nn.Conv2d(before, filters, 1, 2, bias=False), nn.BatchNorm2d(filters)
                )

        def forward(self, x: Any) -> Any:
            y = self.norm2(self.two(nn.functional.relu(self.norm1(self.one(x)))))
            return nn.functional.relu(y + self.short(x))

    blocks, before = [], 64
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            blocks.append(Block(before, filters, 2 if stage and not block else 1))
            before = filters
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


def timed(network: str, size: int, step: Callable[[], None]) -> float:
    """Return the milliseconds of processor time that a step takes."""
    for _ in range(WARM[network]):
        step()
    count = max(STEPS[network] * 32 // size, 2)
    start = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - start) / count * 1e3


def held() -> float:
    """Return the megabytes that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak() -> float:
    """Return the megabytes that the process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


SIDES = {"onnxsmith": run_onnxsmith, "torch": run_torch}


if __name__ == "__main__":
    main()
