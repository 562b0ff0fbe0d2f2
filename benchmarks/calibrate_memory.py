"""How much memory calibration takes, and whether it grows with the number of images.

Every run is a process of its own that quantizes the same optimized network statically; its peak
is read from the system. The photographs are repeated, each time moved by a few pixels, until there
are as many images as asked for. ONNX Runtime's own quantizer runs beside it, on fewer images:
with entropy and percentile it keeps every activation of every image.

    python benchmarks/calibrate_memory.py MODEL.onnx IMAGES_DIR [--methods entropy] [--counts 1000]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.cli.main import run as command
from onnxsmith.pipeline.data import feeds, open_data

OURS = """
from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize
source, count, method = sys.argv[1:]
sys.path.insert(0, {folder!r})
begin = time.perf_counter()
result = quantize(
    Artifact.load(source),
    QuantizeRequest(
        "static", f"calibrate_memory_images:batches?limit={{count}}", method=method, threads=2,
        allow_poor_data=True,
    ),
)
found = [r.details for r in result.pipeline.runs if r.pass_.name == "quantize-static"]
assert found[0]["calibration_samples"] == int(count), found
"""

PEER = """
import logging
from onnxruntime import quantization as q
logging.disable(logging.WARNING)
source, count, method = sys.argv[1:]
sys.path.insert(0, {folder!r})
from calibrate_memory_images import rows
class Reader(q.CalibrationDataReader):
    def __init__(self):
        self.rows = rows(int(count))
    def get_next(self):
        return next(self.rows, None)
begin = time.perf_counter()
q.quantize_static(
    source, {target!r}, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
    calibrate_method={{"minmax": q.CalibrationMethod.MinMax,
                      "percentile": q.CalibrationMethod.Percentile,
                      "entropy": q.CalibrationMethod.Entropy}}[method],
)
"""

# A module of its own: data sources are named as package.module:callable.
IMAGES = """
import numpy as np
photos = np.load({file!r}, mmap_mode="r")

def rows(count):
    for index in range(count):
        turn, place = divmod(index, len(photos))
        yield {{{name!r}: np.roll(photos[place : place + 1], 3 * turn, axis=(2, 3))}}

def batches():
    for row in rows(10**6):
        yield row
"""

TAIL = """
import re
seconds = time.perf_counter() - begin
# Not ru_maxrss: that of a forked process begins with its parent's.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print("RESULT", json.dumps([seconds, peak]))
"""


def main() -> None:
    """Print a row a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--counts", default="100,1000")
    parser.add_argument("--peer-counts", default="10,30")
    parser.add_argument("--methods", default="minmax,entropy")
    arguments = parser.parse_args()
    print("quantizer            method    images  peak MiB  seconds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = prepare(arguments.model, arguments.images, folder)
        sides = (("onnxsmith", OURS, "counts"), ("ONNX Runtime", PEER, "peer_counts"))
        for method in arguments.methods.split(","):
            for side, program, counts in sides:
                for count in filter(None, getattr(arguments, counts).split(",")):
                    seconds, peak = run(program, model, folder, count, method)
                    print(f"{side:20} {method:8} {count:>7} {peak:9.0f} {seconds:8.1f}", flush=True)


def prepare(model: Path, images: Path, folder: Path) -> Path:
    """Optimize the model, decode the photographs once, and write the module that yields them."""
    target = folder / "float.onnx"
    with contextlib.redirect_stdout(None):
        code = command(["optimize", str(model), "-o", str(target), "--allow-slower"])
    if code:
        raise SystemExit(f"{model} cannot be optimized")
    spec = Artifact.load(target).spec
    prepared = "scale=1/255&mean=0.485,0.456,0.406&std=0.229,0.224,0.225"
    source = open_data(f"images:{images}?{prepared}", spec)
    name = spec.inputs[0].name
    rows = [feed.inputs[name][: feed.count] for feed in feeds(source, spec, 8)]
    np.save(folder / "photos.npy", np.concatenate(rows))
    text = IMAGES.format(file=str(folder / "photos.npy"), name=name)
    (folder / "calibrate_memory_images.py").write_text(text)
    return target


def run(program: str, model: Path, folder: Path, count: str, method: str) -> tuple[float, float]:
    """Return seconds and peak MiB of one process."""
    body = program.format(folder=str(folder), target=str(folder / "peer.onnx"))
    code = f"import json, sys, time\n{body}{TAIL}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(model), count, method],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{done.stderr[-2000:]}\nfailed with exit code {done.returncode}")
    seconds, peak = json.loads(lines[-1].removeprefix("RESULT "))
    return seconds, peak


if __name__ == "__main__":
    main()
