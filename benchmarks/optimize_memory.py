"""Peak memory of ``onnxsmith optimize`` on a 440 MB model with embedded weights, check on.

Prints VmHWM over the file's size, and beside it that of onnx_ir loading and saving the same file
without looking at it. Each side is a process of its own; the sides alternate.
Run: python benchmarks/optimize_memory.py
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROUNDS = 3
WIDTH, LAYERS = 1024, 105
SIDES = {
    "onnxsmith optimize": "from onnxsmith.cli.main import run; code = run(['optimize', {source!r}, "
    "'-o', {target!r}, '--allow-slower'])",
    "onnx_ir load and save": "import onnx_ir; onnx_ir.save(onnx_ir.load({source!r}), {target!r}); "
    "code = 0",
}
REPORT = "; print(open('/proc/self/status').read()); raise SystemExit(code)"


def build(path: Path) -> None:
    """Write a residual network of matrix products with foldable and removable nodes between."""
    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for index in range(LAYERS):
        weight = generator.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.sqrt(WIDTH)
        bias = generator.standard_normal(WIDTH, dtype=np.float32)
        weights += [
            numpy_helper.from_array(weight.astype(np.float32), f"w{index}"),
            numpy_helper.from_array(bias, f"b{index}"),
            numpy_helper.from_array(np.float32(0.5), f"s{index}"),
        ]
        nodes += [
            helper.make_node("Mul", [f"b{index}", f"s{index}"], [f"c{index}"]),
            helper.make_node("MatMul", [last, f"w{index}"], [f"m{index}"]),
            helper.make_node("Add", [f"m{index}", f"c{index}"], [f"a{index}"]),
            helper.make_node("Identity", [f"a{index}"], [f"i{index}"]),
            helper.make_node("Tanh", [f"i{index}"], [f"t{index}"]),
        ]
        last = f"t{index}"
    shape = ["batch", WIDTH]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(model, path)


def measure(code: str) -> tuple[float, float]:
    """Return VmHWM in bytes and the seconds of a fresh process."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + REPORT], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    match = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    if done.returncode or match is None:
        raise SystemExit(f"a side failed: {done.stderr or done.stdout}")
    return int(match[1]) * 1024, seconds


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        build(source)
        size = source.stat().st_size
        print(f"file: {size / 1e6:.0f} MB")
        figures: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
        for _ in range(ROUNDS):
            for side, code in SIDES.items():
                figures[side].append(measure(code.format(source=str(source), target=str(target))))
                target.unlink()
    for side, values in figures.items():
        memory = statistics.median(value for value, _ in values)
        seconds = statistics.median(value for _, value in values)
        print(
            f"{side}: {memory / size:.2f}x the file (VmHWM {memory / 1e6:.0f} MB), {seconds:.1f} s"
        )


if __name__ == "__main__":
    main()
