"""Every route into ONNX, side by side: nodes, nodes after cleanup, time and peak memory.

For each source onnxsmith's ``convert`` (which also checks the result against the source) stands
beside the framework's own exporters. Each route is a process of its own, started cold; the figure
of merit is the number of nodes after the same cleanup over that of the best route. Sources whose
framework is not installed are named and left out. ONNXSMITH_MATERIAL adds real Caffe and MXNet
files, some beside the ONNX files that others made of the same networks.
Run: python benchmarks/frontends.py [--rounds N] [NAME...], where NAME begins that of a source.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from sources import peers

HERE = Path(__file__).resolve().parent
OPSET = 18

# On Linux ru_maxrss also counts what the process was before it became this program; VmHWM does not.
REPORT = """
import atexit
def _report():
    import resource  # here: a program's own names are gone when this runs
    own = next(int(line.split()[1]) for line in open('/proc/self/status') if 'VmHWM' in line)
    print("\\nPEAK", max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
atexit.register(_report)
"""
OURS = "from onnxsmith.cli.main import run; raise SystemExit(run({arguments!r}))"


@dataclass(frozen=True)
class Case:
    """A source and the routes it can take.

    Attributes:
        name: What it is.
        packages: What must be installed.
        source: The arguments of ``onnxsmith convert``; ``{source}`` is the file prepared.
        peers: The name of each other route, and its program.
        prepare: The program that writes the source's file, and that file's name.
    """

    name: str
    packages: tuple[str, ...]
    source: list[str]
    peers: dict[str, str] = field(default_factory=dict)
    prepare: tuple[str, str] = ("", "")


def torch_cases() -> list[Case]:
    """Return networks of PyTorch."""
    image, sequence = ((2, 3, 64, 64), "batch,3,64,64"), ((2, 8, 64), "batch,time,64")
    nets = {
        "resnet": image, "mobilenet": image, "vit": image, "transformer": sequence,
        "lstm": sequence, "gru": sequence, "decoder": ((2, 8), "batch,time"),
    }  # fmt: skip
    found = []
    for name, (shape, dims) in nets.items():
        dtype = "int64" if name == "decoder" else "float32"
        source = [f"sources.torch_nets:{name}", "--input", f"x:{dtype}[{dims}]"]
        routes = {
            f"torch.onnx {kind}": fill(peers.TORCH, name=name, shape=shape, dynamo=dynamo)
            for kind, dynamo in (("dynamo", True), ("legacy", False))
        }
        found.append(Case(f"torch {name}", ("torch",), source, routes))
    bert = {
        f"torch.onnx {kind}": fill(peers.BERT, dynamo=dynamo)
        for kind, dynamo in (("dynamo", True), ("legacy", False))
    }
    prepared = (fill(peers.BERT_SOURCE), "bert")
    packages = ("torch", "transformers")
    return [*found, Case("huggingface bert", packages, ["{source}"], bert, prepared)]


def tensorflow_cases() -> list[Case]:
    """Return networks of TensorFlow, Keras, TensorFlow Lite and JAX."""
    net = "convolutions"
    found = [
        Case("tensorflow convolutions", ("tf2onnx",), [f"sources.tf_nets:{net}"],
             {"tf2onnx": fill(peers.TF2ONNX, name=net)}),
        Case("keras residual", ("keras", "tf2onnx"), ["sources.keras_nets:residual"],
             {"keras export": fill(peers.KERAS, name="residual", own=True),
              "tf2onnx": fill(peers.KERAS, name="residual", own=False)}),
    ]  # fmt: skip
    for kind in ("float", "int8"):
        quantized = kind == "int8"
        prepared = (fill(peers.TFLITE_SOURCE, name=net, quantized=quantized), f"{kind}.tflite")
        routes = {"tf2onnx": fill(peers.TFLITE)}
        found.append(Case(f"tflite {kind}", ("tf2onnx",), ["{source}"], routes, prepared))
    source = ["sources.jax_nets:perceptron", "--input", "x:float32[batch,64]"]
    routes = {"jax2onnx": fill(peers.JAX, name="perceptron")}
    return [*found, Case("jax perceptron", ("jax", "jax2onnx"), source, routes)]


def estimator_cases() -> list[Case]:
    """Return estimators of scikit-learn and the boosting libraries."""
    found = []
    for name in ("logistic", "forest", "histogram"):
        options = {} if name == "histogram" else {"zipmap": False}
        routes = {"skl2onnx": fill(peers.SKLEARN, name=name, options=options)}
        found.append(Case(f"sklearn {name}", ("skl2onnx",), [f"sources.estimators:{name}"], routes))
    for name, more in (("xgboost", ""), ("lightgbm", ", zipmap=False")):
        routes = {"onnxmltools": fill(peers.ONNXMLTOOLS, name=name, more=more)}
        source = [f"sources.boosters:{name}", "--from", name, "--input", "X:float32[batch,20]"]
        found.append(Case(f"{name} classifier", (name, "onnxmltools"), source, routes))
    source = ["sources.boosters:catboost", "--from", "catboost"]
    routes = {"catboost": fill(peers.CATBOOST)}
    return [*found, Case("catboost classifier", ("catboost",), source, routes)]


def real_cases() -> list[Case]:
    """Return real Caffe and MXNet files, where they are."""
    models = Path(os.environ.get("ONNXSMITH_MATERIAL", ""), "real", "models").resolve()
    if not models.is_dir():
        return []
    caffe, mxnet = models / "caffe", models / "mxnet"
    lenet = caffe / "lenet_mnist"
    weights = ["--weights", str(lenet / "lenet_iter_10000.caffemodel")]
    found = [Case("caffe lenet", ("onnx",), [str(lenet / "lenet_deploy.prototxt"), *weights])]
    for name in ("RFB", "slim"):
        sibling = models / "onnx" / "ultraface" / f"version-{name}-320.onnx"
        routes = {"its ONNX sibling": fill(peers.SIBLING).replace("{source}", str(sibling))}
        source = [str(caffe / "ultraface" / f"{name}-320.prototxt")]
        found.append(Case(f"caffe ultraface {name}", ("onnx",), source, routes))
    digits = [str(mxnet / "mnist_cnn" / "mnist-symbol.json")]
    faces = [str(mxnet / "mtcnn" / "det3-symbol.json")]
    return [
        *found,
        Case("mxnet digits", ("onnx",), [*digits, "--input", "data:float32[batch,1,28,28]"]),
        Case("mxnet mtcnn", ("onnx",), [*faces, "--input", "data:float32[batch,3,48,48]"]),
    ]


def fill(program: str, **values: object) -> str:
    """Fill in what is known of a program; the files are known later."""
    return program.format(opset=OPSET, out="{out}", source="{source}", **values)


def measure(code: str) -> tuple[float, float, str]:
    """Run code in a process of its own; return seconds, peak MiB and why it failed."""
    wrapped = f"{REPORT}\n{code}"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", wrapped], capture_output=True, text=True, cwd=HERE, check=False
    )
    seconds = time.perf_counter() - began
    peaks = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("PEAK ")]
    told = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in told if line.startswith("error: ")]
    why = "" if done.returncode == 0 else (errors or told or ["failed"])[-1]
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


def compare(case: Case, folder: Path, rounds: int) -> None:
    """Measure the routes of one source in turns and print a row for each."""
    stem = case.name.replace(" ", "-")
    made = folder / case.prepare[1]
    if case.prepare[0]:
        _, _, why = measure(case.prepare[0].replace("{out}", str(made)))
        if why:
            raise SystemExit(f"{case.name}: its source cannot be made: {why}")
    ours = folder / f"{stem}-onnxsmith.onnx"
    source = [word.replace("{source}", str(made)) for word in case.source]
    arguments = ["convert", *source, "-o", str(ours), "--opset", str(OPSET)]
    routes = {"onnxsmith": (ours, OURS.format(arguments=arguments))}
    for number, (name, code) in enumerate(case.peers.items()):
        path = folder / f"{stem}-{number}.onnx"
        routes[name] = (path, code.replace("{out}", str(path)).replace("{source}", str(made)))
    found: dict[str, list[tuple[float, float, str]]] = {name: [] for name in routes}
    for _ in range(rounds):
        for name, (_, code) in routes.items():
            if not (found[name] and found[name][-1][2]):
                found[name].append(measure(code))
    counts = {
        name: (nodes(path), cleaned(path))
        for name, (path, _) in routes.items()
        if not found[name][-1][2]
    }
    best = min((clean for _, clean in counts.values()), default=0)
    for name, runs in found.items():
        if name not in counts:
            print(f"| {case.name} | {name} | failed: {runs[-1][2]} | | | | |", flush=True)
            continue
        raw, clean = counts[name]
        print(
            f"| {case.name} | {name} | {raw} | {clean} | {clean / max(best, 1):.2f} "
            f"| {statistics.median(run[0] for run in runs):.1f} "
            f"| {statistics.median(run[1] for run in runs):.0f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of sources' names; all without")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    wanted = tuple(options.names)
    print("| source | route | nodes | cleaned | /best | s | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    every = [*torch_cases(), *tensorflow_cases(), *estimator_cases(), *real_cases()]
    with tempfile.TemporaryDirectory() as name:
        for case in every:
            if wanted and not case.name.startswith(wanted):
                continue
            missing = [p for p in case.packages if importlib.util.find_spec(p) is None]
            if missing:
                print(f"| {case.name} | left out: no {missing[0]} | | | | | |")
                continue
            compare(case, Path(name), options.rounds)


if __name__ == "__main__":
    main()
