"""Does the time of ``optimize`` grow linearly with the number of nodes?

Builds graphs of about 1,000, 10,000 and 100,000 nodes from three kinds of layers in turn:
convolution with batch normalization and activation, attention-like reshapes whose targets are
computed from shapes, and pointwise chains. Prints nodes before and after, processor seconds from
load to saved file with the cpu preset (check and gate off), and milliseconds for each thousand
nodes. The work is that of one thread: on an idle machine processor seconds are seconds. Each run is
a process of its own. Run:

    python benchmarks/optimize_scaling.py [--sizes 1000 10000 100000] [--passes]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

CHANNELS = 8
MEASURE = """
import json, re, sys, time
import onnxruntime
from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.manager import PassManager
from onnxsmith.passes.pipeline import PassPipeline
passes = PassPipeline.preset("cpu").passes
start = time.process_time()
artifact = Artifact.load(sys.argv[1])
loaded = time.process_time()
result = PassManager(passes, PassContext(), None, "off").run(artifact)
ran = time.process_time()
result.artifact.save(sys.argv[2])
done = time.process_time()
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
slowest = sorted(((r.seconds, str(r.pass_)) for r in result.runs), reverse=True)[:6]
print("RESULT", json.dumps([
    sum(result.census_before.values()), sum(result.census_after.values()),
    loaded - start, ran - loaded, done - ran, peak, slowest,
]))
"""


class Builder:
    """Collects nodes and weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {
            "one": np.array([1], np.int64),
            "minus": np.array([-1], np.int64),
            "zero": np.array([0], np.int64),
            "two": np.array([2], np.int64),
            "four": np.array([4], np.int64),
            "half": np.array(0.5, np.float32),
        }
        self.random = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node; return the name of its result."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """Add a weight; return its name."""
        name = f"w{len(self.weights)}"
        self.weights[name] = self.random.uniform(0.1, 0.5, shape).astype(np.float32)
        return name

    def convolution(self, x: str) -> str:
        """Three nodes, of which two go."""
        y = self.add("Conv", x, self.weight(CHANNELS, CHANNELS, 1, 1))
        y = self.add("BatchNormalization", y, *(self.weight(CHANNELS) for _ in range(4)))
        return self.add("Relu", y)

    def reshapes(self, x: str) -> str:
        """Reshapes to and fro with targets that are computed from the shape."""
        shape = self.add("Shape", x)
        batch = self.add("Slice", shape, "zero", "one")
        target = self.add("Concat", batch, "two", "four", "minus", axis=0)
        y = self.add("Reshape", x, target)
        y = self.add("Transpose", y, perm=[0, 2, 1, 3])
        y = self.add("Transpose", y, perm=[0, 2, 1, 3])
        y = self.add("Mul", y, "half")
        return self.add("Reshape", y, shape)

    def pointwise(self, x: str) -> str:
        """A chain with a constant part and a sum over a detour."""
        constant = self.add("Exp", self.weight(1))
        y = self.add("Sigmoid", x)
        y = self.add("Mul", y, constant)
        y = self.add("Identity", y)
        return self.add("Add", y, x)


def build(count: int, path: Path) -> None:
    """Write a graph of at least ``count`` nodes."""
    builder, value = Builder(), "x"
    layers = (builder.convolution, builder.reshapes, builder.pointwise)
    while len(builder.nodes) < count:
        for layer in layers:
            value = layer(value)
    builder.nodes.append(helper.make_node("Identity", [value], ["y"]))
    shape = ["N", CHANNELS, 4, 4]
    graph = helper.make_graph(
        builder.nodes,
        "scaling",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in builder.weights.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(model, path)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--passes", action="store_true", help="print the slowest passes too")
    options = parser.parse_args()
    print("| nodes | after | load s | passes s | save s | ms a thousand nodes | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "in.onnx")
            build(size, source)
            done = subprocess.run(
                [sys.executable, "-c", MEASURE, str(source), str(Path(folder, "out.onnx"))],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        (line,) = [text for text in done.stdout.splitlines() if text.startswith("RESULT ")]
        before, after, load, run, save, peak, slowest = json.loads(line.removeprefix("RESULT "))
        each = 1e6 * (load + run + save) / before
        times = " | ".join(f"{seconds:.2f}" for seconds in (load, run, save))
        print(f"| {before} | {after} | {times} | {each:.0f} | {peak:.0f} |", flush=True)
        if options.passes:
            for seconds, name in slowest:
                print(f"    {name} {seconds:.2f} s")


if __name__ == "__main__":
    main()
