"""Time recurrent layers and transposed convolutions in int8 against themselves in float32.

A recurrent layer stands alone, in the mode ``dynamic``. A transposed convolution stands between two
convolutions, in the mode ``static``, which are in int8 on both sides. Layers are quantized whatever
their size: what the modes leave in float because it would be slower is measured as well.

    python benchmarks/quantize_layers.py [--rounds 5] [KIND ...]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.dynamic import scans
from onnxsmith.passes.quantization.shuffle_conv_transposes import ShuffleConvTransposes
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize
from onnxsmith.runtime.bench import bench

RNG = np.random.default_rng(0)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
RECURRENT = {
    "LSTM": ((100, 1, 128), (100, 1, 256), (100, 16, 512)),
    "GRU": (
        (100, 1, 256), (100, 16, 256), (100, 1, 384), (100, 1, 512), (1, 1, 512), (100, 1, 1024),
    ),
    "RNN": ((100, 1, 256), (100, 1, 512), (100, 8, 512), (100, 1, 1024)),
}  # fmt: skip
"""Steps, samples, and inputs, of which there are as many as hidden units."""
KERNELS = ((4, 2), (3, 2), (2, 2))
"""Kernel and stride of transposed convolutions of 64 channels on 28 x 28 places."""
CHANNELS, PLACES, SAMPLES = 64, 28, 32


def main() -> None:
    """Print a line for each layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=[*RECURRENT, "ConvTranspose"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    scans.LEAST_HIDDEN.update(GRU=0, RNN=0)
    for kind in arguments.kinds:
        if kind == "ConvTranspose":
            for kernel, stride in KERNELS:
                name = f"{kind} of {kernel} x {kernel}, stride {stride}"
                show(name, *both_transposed(kernel, stride), arguments.rounds)
        else:
            for steps, batch, units in RECURRENT[kind]:
                name = f"{kind}, {steps} steps, {batch} samples, {units} units"
                layer = Artifact.from_proto(recurrent(kind, steps, batch, units))
                small = quantize(layer, QuantizeRequest("dynamic")).artifact
                show(name, layer, small, arguments.rounds)


def show(name: str, first: Artifact, second: Artifact, rounds: int) -> None:
    """Measure two models and print the ratio of their times."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"]
        first.save(paths[0])
        second.save(paths[1])
        (found,) = bench(paths, threads=2, rounds=rounds).comparisons
    print(f"{name}: {found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})", flush=True)


def both_transposed(kernel: int, stride: int) -> tuple[Artifact, Artifact]:
    """Return static models with a transposed convolution in float, and in int8."""
    artifact = Artifact.from_proto(transposed(kernel, stride))
    shuffled = ShuffleConvTransposes(smallest=0).apply(artifact.clone().model, PassContext())
    with tempfile.TemporaryDirectory() as scratch:
        data = RNG.standard_normal([SAMPLES, CHANNELS, PLACES, PLACES]).astype(np.float32)
        np.savez(f"{scratch}/data.npz", x=data)
        request = QuantizeRequest("static", data=f"npz:{scratch}/data.npz")
        left = replace(request, exclude=("ConvTranspose",))
        return (
            quantize(artifact, left).artifact,
            quantize(Artifact(shuffled.model), request).artifact,
        )


def recurrent(kind: str, steps: int, batch: int, units: int) -> onnx.ModelProto:
    """Return one layer with random weights."""
    rows = GATES[kind] * units
    weights = {
        "w": RNG.standard_normal((1, rows, units)),
        "r": RNG.standard_normal((1, rows, units)),
        "b": RNG.standard_normal((1, 2 * rows)),
    }
    options = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(kind, ["x", *weights], ["y"], hidden_size=units, **options)
    shapes = [[steps, batch, units], [steps, 1, batch, units]]
    scaled = {name: array / np.sqrt(units) for name, array in weights.items()}
    return model_of([node], scaled, shapes[0], shapes[1])


def transposed(kernel: int, stride: int) -> onnx.ModelProto:
    """Return a transposed convolution between two convolutions, so that its input is rounded."""
    small = {name: RNG.standard_normal((CHANNELS, CHANNELS, 3, 3)) for name in ("v", "u")}
    weights = {**small, "w": RNG.standard_normal((CHANNELS, CHANNELS, kernel, kernel))}
    pad = (kernel - stride) // 2
    more = kernel - stride - 2 * pad
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], pads=[1] * 4),
        helper.make_node(
            "ConvTranspose",
            ["a", "w"],
            ["b"],
            strides=[stride] * 2,
            pads=[pad, pad, pad + more, pad + more],
        ),
        helper.make_node("Conv", ["b", "u"], ["y"], pads=[1] * 4),
    ]
    scaled = {name: array / np.sqrt(array[0].size) for name, array in weights.items()}
    wide = PLACES * stride
    shapes = [[1, CHANNELS, PLACES, PLACES], [1, CHANNELS, wide, wide]]
    return model_of(nodes, scaled, shapes[0], shapes[1])


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    shape: list[int],
    result: list[int],
) -> onnx.ModelProto:
    """Return a model of float32 that reads ``x`` and makes ``y``."""
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


if __name__ == "__main__":
    main()
