"""Every route into ONNX, side by side: nodes, nodes after cleanup, time and peak memory.

For each source onnxsmith's ``convert`` (which also checks the result against the source) stands
beside the framework's own exporters. Each route is a process of its own, started cold; the figure
of merit is the number of nodes after the same cleanup over that of the best route. Frameworks that
are not installed are named and left out. ONNXSMITH_MATERIAL adds real Caffe and MXNet files.
Run: python benchmarks/frontends.py
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import onnx

HERE = Path(__file__).resolve().parent
ROUNDS = 3
OPSET = 18

REPORT = """
import atexit, resource
def _report():
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print("PEAK", max(resource.getrusage(w).ru_maxrss for w in who))
atexit.register(_report)
"""
OURS = "from onnxsmith.cli.main import run; raise SystemExit(run({arguments!r}))"
TORCH = """
import torch
from sources import torch_nets
shape = {shape}
dims = {{0: torch.export.Dim('batch')}}
if len(shape) == 3:
    dims[1] = torch.export.Dim('time')
options = (
    dict(dynamo=True, dynamic_shapes=(dims,)) if {dynamo}
    else dict(dynamo=False, dynamic_axes={{'x': list(dims)}}, input_names=['x'])
)
torch.onnx.export(
    torch_nets.{name}(), (torch.randn(*shape),), {out!r}, opset_version={opset}, **options
)
"""
SKLEARN = """
import skl2onnx
from sources import estimators
model = estimators.{name}()
proto = skl2onnx.to_onnx(model, estimators.X[:1], options={{'zipmap': False}}, target_opset={opset})
open({out!r}, 'wb').write(proto.SerializeToString())
"""
TF2ONNX = """
import numpy, tensorflow as tf, tf2onnx
numpy.product = numpy.prod
from sources import tf_nets
tf2onnx.convert.from_function(
    tf_nets.{name}().__call__,
    input_signature=[tf.TensorSpec([None, 96, 96, 3], tf.float32, name='image')],
    opset={opset},
    output_path={out!r},
)
"""


@dataclass(frozen=True)
class Case:
    """A source and the routes it can take."""

    name: str
    package: str
    source: list[str]
    peers: dict[str, str]


def cases() -> list[Case]:
    """Return the sources, the real ones where they are there."""
    found = [
        Case(
            f"torch {name}",
            "torch",
            [f"sources.torch_nets:{name}", "--input", f"x:float32[{dims}]"],
            {
                "torch.onnx dynamo": TORCH.format(
                    name=name, shape=shape, dynamo=True, out="{out}", opset=OPSET
                ),
                "torch.onnx legacy": TORCH.format(
                    name=name, shape=shape, dynamo=False, out="{out}", opset=OPSET
                ),
            },
        )
        for name, shape, dims in (
            ("resnet", (2, 3, 64, 64), "batch,3,64,64"),
            ("transformer", (2, 8, 64), "batch,time,64"),
            ("lstm", (2, 8, 64), "batch,time,64"),
        )
    ]
    found += [
        Case(
            f"sklearn {name}",
            "skl2onnx",
            [f"sources.estimators:{name}"],
            {"skl2onnx": SKLEARN.format(name=name, out="{out}", opset=OPSET)},
        )
        for name in ("logistic", "forest")
    ]
    found.append(
        Case(
            "tensorflow convolutions",
            "tf2onnx",
            ["sources.tf_nets:convolutions"],
            {"tf2onnx": TF2ONNX.format(name="convolutions", out="{out}", opset=OPSET)},
        )
    )
    models = Path(os.environ.get("ONNXSMITH_MATERIAL", ""), "real", "models").resolve()
    caffe, mxnet = models / "caffe", models / "mxnet"
    if models.is_dir():
        lenet = caffe / "lenet_mnist"
        found += [
            Case(
                "caffe lenet",
                "onnx",
                [
                    str(lenet / "lenet_deploy.prototxt"),
                    "--weights",
                    str(lenet / "lenet_iter_10000.caffemodel"),
                ],
                {},
            ),
            Case("caffe ultraface", "onnx", [str(caffe / "ultraface" / "RFB-320.prototxt")], {}),
            Case(
                "mxnet digits",
                "onnx",
                [
                    str(mxnet / "mnist_cnn" / "mnist-symbol.json"),
                    "--input",
                    "data:float32[batch,1,28,28]",
                ],
                {},
            ),
        ]
    return found


def measure(code: str) -> tuple[float, float, str]:
    """Run code in a process of its own; return seconds, peak MiB and why it failed.

    The peak is that of the largest process below this one so far, so a route's own is printed by
    the route itself.
    """
    wrapped = f"{REPORT}\n{code}"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", wrapped], capture_output=True, text=True, cwd=HERE, check=False
    )
    seconds = time.perf_counter() - began
    peaks = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("PEAK ")]
    why = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]
    return seconds, int(peaks[-1]) / 1024 if peaks else 0.0, why[:100]


def nodes(path: Path) -> int:
    """Count the nodes of the main graph and its functions."""
    model = onnx.load(path, load_external_data=False)
    return len(model.graph.node) + sum(len(function.node) for function in model.functions)


def cleaned(path: Path) -> int:
    """Count the nodes after onnxsmith's fusing preset, the same for all routes."""
    target = path.with_name(f"clean-{path.name}")
    arguments = ["optimize", str(path), "-o", str(target), "--preset", "cpu", "--allow-slower"]
    _, _, why = measure(OURS.format(arguments=arguments))
    return nodes(path) if why else nodes(target)


def compare(case: Case, folder: Path) -> None:
    """Measure the routes of one source in turns and print a line for each."""
    routes: dict[str, tuple[Path, str]] = {}
    stem = case.name.replace(" ", "-")
    ours = folder / f"{stem}-onnxsmith.onnx"
    arguments = ["convert", *case.source, "-o", str(ours), "--opset", str(OPSET)]
    routes["onnxsmith"] = (ours, OURS.format(arguments=arguments))
    for number, (name, code) in enumerate(case.peers.items()):
        path = folder / f"{stem}-{number}.onnx"
        routes[name] = (path, code.replace("'{out}'", repr(str(path))))
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    peaks: dict[str, float] = {}
    failed: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name, (_, code) in routes.items():
            if name in failed:
                continue
            took, peaks[name], why = measure(code)
            seconds[name].append(took)
            if why:
                failed[name] = why
    counts = {n: (nodes(p), cleaned(p)) for n, (p, _) in routes.items() if n not in failed}
    best = min((count for _, count in counts.values()), default=0)
    for name in routes:
        if name in failed:
            print(f"{case.name:26} {name:20} FAILED: {failed[name]}")
            continue
        raw, clean = counts[name]
        middle = sorted(seconds[name])[len(seconds[name]) // 2]
        print(
            f"{case.name:26} {name:20} {raw:6} {clean:8} {clean / max(best, 1):6.2f} "
            f"{middle:7.1f} {peaks[name]:8.0f}"
        )


def main() -> None:
    """Print the table."""
    print(
        f"{'source':26} {'route':20} {'nodes':>6} {'cleaned':>8} {'/best':>6} {'s':>7} {'MiB':>8}"
    )
    with tempfile.TemporaryDirectory() as name:
        for case in cases():
            if importlib.util.find_spec(case.package) is None:
                print(f"{case.name:26} left out: {case.package} is not installed")
                continue
            compare(case, Path(name))


if __name__ == "__main__":
    main()
