"""How long do ``onnxsmith --help`` and converting a small file take, and what do they import?

Prints the wall time of ``--help`` beside that of an empty Python program, both alternated, and of
``convert`` on small ONNX and Caffe files. Exits with an error where ``--help`` imports a heavy
module, or ``convert`` a framework, or takes a second of the processor (load of others adds to wall
time alone). Run: python benchmarks/startup.py
"""

import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15
HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch", "sklearn")
FRAMEWORKS = (
    "torch", "tensorflow", "tensorflow.lite", "keras", "jax", "flax", "sklearn", "skl2onnx",
    "xgboost", "lightgbm", "catboost", "transformers", "paddle", "mxnet", "caffe",
)  # fmt: skip
EMPTY = [sys.executable, "-P", "-c", "pass"]
RUN = [sys.executable, "-P", "-c", "from onnxsmith.cli.main import run; raise SystemExit(run({}))"]
# Modules of ours have such names too: only whole names of modules count.
IMPORTED = """
import sys
from onnxsmith.cli.main import run
run({})
print('imported:', '|'.join(name for name in {!r} if name in sys.modules), file=sys.stderr)
"""
LIMIT = 1.0  # seconds
ONNX = """
<ir_version: 10, opset_import: ["" : 18]>
net (float[batch, 3, 8, 8] image) => (float[batch, 4, 8, 8] scores)
<float[4, 3, 1, 1] weight = {0.5, 1, 2, -1, 0.5, 1, 2, -1, 0.5, 1, 2, -1}> {
    found = Conv(image, weight)
    scores = Relu(found)
}
"""
CAFFE = """
name: "net"
input: "image"
input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer {
  name: "conv" type: "Convolution" bottom: "image" top: "found"
  convolution_param { num_output: 4 kernel_size: 1 bias_term: false }
}
layer { name: "relu" type: "ReLU" bottom: "found" top: "scores" }
"""


def field(number: int, content: bytes) -> bytes:
    """Encode a field of a protobuf message, shorter than 128 bytes."""
    return bytes((number << 3 | 2,)) + bytes((len(content),)) + content


def caffemodel() -> bytes:
    """Encode the weights [4, 3, 1, 1] of the layer ``conv``."""
    blob = field(5, struct.pack("<12f", *range(12))) + field(7, field(1, bytes((4, 3, 1, 1))))
    layer = field(1, b"conv") + field(2, b"Convolution") + field(7, blob)
    return bytes((100 << 3 & 127 | 2 | 128, 100 << 3 >> 7)) + bytes((len(layer),)) + layer


def seconds(command: list[str]) -> float:
    """Return the wall time of a command."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def imported(arguments: list[str], names: tuple[str, ...]) -> list[str]:
    """Return which of the modules running the command imports."""
    program = IMPORTED.format(arguments, names)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True
    )
    last = done.stderr.rpartition("imported: ")[2]  # warnings stand before it
    return [name for name in last.strip().split("|") if name]


def main() -> None:
    """Print the figures.

    Raises:
        SystemExit: A module was imported that must not be, or a file took a second.
    """
    command = [*RUN[:-1], RUN[-1].format(["--help"])]
    pairs = [(seconds(command), seconds(EMPTY)) for _ in range(ROUNDS)]
    median = statistics.median(own for own, _ in pairs)
    ratio = statistics.median(own / empty for own, empty in pairs)
    print(f"onnxsmith --help: median {median:.3f} s, {ratio:.1f}x an empty Python program")
    heavy = imported(["--help"], HEAVY)
    if heavy:
        raise SystemExit(f"onnxsmith --help imports {heavy}")
    with tempfile.TemporaryDirectory() as name:
        for path in small_files(Path(name)):
            convert(path)


def small_files(folder: Path) -> list[Path]:
    """Write a network of two layers as an ONNX and a Caffe file."""
    program = f"import onnx; onnx.save(onnx.parser.parse_model({ONNX!r}), 'net.onnx')"
    subprocess.run([sys.executable, "-P", "-c", program], check=True, cwd=folder)
    (folder / "net.prototxt").write_text(CAFFE)
    (folder / "net.caffemodel").write_bytes(caffemodel())
    return [folder / "net.onnx", folder / "net.prototxt"]


def convert(path: Path) -> None:
    """Print how long converting a file takes.

    Raises:
        SystemExit: It takes too long, or a framework was imported.
    """
    arguments = ["convert", str(path), "-o", str(path.with_name("out.onnx"))]
    times, work = [], []
    for _ in range(ROUNDS):
        before = os.times()
        times.append(seconds([*RUN[:-1], RUN[-1].format(arguments)]))
        after = os.times()
        user = after.children_user - before.children_user
        work.append(user + after.children_system - before.children_system)
    found = imported(arguments, FRAMEWORKS)
    print(
        f"onnxsmith convert {path.name}: {min(times):.2f} s at best, "
        f"median {statistics.median(times):.2f}, "
        f"of the processor {min(work):.2f} s; "
        f"frameworks imported: {', '.join(found) or 'none'}"
    )
    if found or min(work) >= LIMIT:
        raise SystemExit(
            f"it must take less than {LIMIT:g} s of the processor and import no framework"
        )


if __name__ == "__main__":
    main()
