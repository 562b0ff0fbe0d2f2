"""Time forward and backward of recurrent layers against torch: processor time of one thread.

python benchmarks/recurrent.py [--rounds 12]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import onnx.parser
import torch

from onnxsmith.artifact import Artifact
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

GATES = {"LSTM": 4, "GRU": 3}
SIZES = ((8, 32, 64, 128), (32, 32, 64, 128), (64, 8, 32, 32), (100, 32, 128, 256))
"""Steps, samples, inputs, hidden units."""


def main() -> None:
    """Print a line for each layer and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for kind in GATES:
        for sizes in SIZES:
            ours, theirs = compare(kind, sizes, rounds)
            ratio = statistics.median(o / t for o, t in zip(ours, theirs, strict=True))
            print(
                f"{kind:5} {sizes!s:20} onnxsmith {statistics.median(ours):7.2f} ms   "
                f"torch {statistics.median(theirs):7.2f} ms   ratio {ratio:.2f}"
            )


def compare(
    kind: str, sizes: tuple[int, int, int, int], rounds: int
) -> tuple[list[float], list[float]]:
    """Return both sides' milliseconds, alternated."""
    steps, batch, inputs, hidden = sizes
    x = torch.randn(steps, batch, inputs, requires_grad=True)
    layer = getattr(torch.nn, kind)(inputs, hidden)

    def theirs() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x)[0].sum().backward()

    rng = np.random.default_rng(0)
    rows = GATES[kind] * hidden
    feeds = {
        "x": x.detach().numpy(),
        "w": rng.normal(size=(1, rows, inputs)).astype(np.float32) * 0.1,
        "r": rng.normal(size=(1, rows, hidden)).astype(np.float32) * 0.1,
        "b": np.zeros((1, 2 * rows), np.float32),
    }
    kinds = ", ".join(f"float{list(value.shape)} {name}" for name, value in feeds.items())
    option = ", linear_before_reset = 1" if kind == "GRU" else ""
    text = (
        '<ir_version: 10, opset_import: ["" : 21]>'
        f"g ({kinds}) => (float[{steps}, 1, {batch}, {hidden}] y)"
        f"{{ y = {kind} <hidden_size = {hidden}{option}> (x, w, r, b) }}"
    )
    made = gradients(Artifact.from_proto(onnx.parser.parse_model(text)), "y", list(feeds))
    times: tuple[list[float], list[float]] = ([], [])
    with Session(made, threads=1, spin=False) as session:
        for _ in range(rounds):
            times[0].append(clock(lambda: session.run(feeds)))
            times[1].append(clock(theirs))
    return times


def clock(work: Callable[[], object]) -> float:
    """Return the processor time of some work in milliseconds."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


if __name__ == "__main__":
    main()
