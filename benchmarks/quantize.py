"""Quantize networks with onnxsmith, ONNX Runtime's own quantizer and NNCF, and time the results.

Every network is optimized by onnxsmith first; all quantizers start from that file, with the same
calibration data. Then the models take turns, each turn in a process of its own with two threads.
Ratios are of a turn's medians, with their 95 % interval over the rounds. The signal to noise is
that of the first output against the float model's, on inputs that were not calibrated on. The
networks have random weights: their accuracy means nothing, so that of trained ones is measured
by benchmarks/quantize_accuracy.py.

    python benchmarks/sources/architectures.py FOLDER    # where torch and transformers are
    python benchmarks/quantize.py FOLDER [NAME ...] [--images DIR] [--openvino PYTHON] [--rounds 5]

DIR holds photographs to calibrate with (random pixels without); PYTHON is the interpreter of an
environment with openvino and nncf.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sources import quantizers

from onnxsmith.artifact import Artifact
from onnxsmith.runtime.bench_worker import Job
from onnxsmith.runtime.measurement import Measurement, compare
from onnxsmith.runtime.session import Session
from onnxsmith.runtime.turn import measure_in_process, write_feeds

Arrays = dict[str, np.ndarray[Any, Any]]
# Name to kind, and to the modes of onnxsmith to measure.
NETWORKS = {
    "resnet50": ("convolutional", ("static",)),
    "mobilenet_v2": ("convolutional", ("static",)),
    "efficientnet_b0": ("convolutional", ("static",)),
    "bert": ("transformer", ("dynamic", "static")),
    "vit_b_16": ("transformer", ("dynamic", "static")),
    "swin_t": ("transformer", ("dynamic", "static")),
    "gpt2": ("transformer", ("dynamic",)),
}
THREADS, RUNS, SEED, CALIBRATION, PROBES = 2, 20, 0, 32, 4
FLOAT, PEER, OPENVINO_FLOAT, NNCF = "float32", "ONNX Runtime int8", "OpenVINO float32", "NNCF int8"


@dataclass
class Variant:
    """One model of a network: its file, what making it took, and its times."""

    name: str
    path: Path
    python: str = sys.executable
    seconds: float | None = None
    peak: float | None = None
    outputs: np.ndarray[Any, Any] | None = None
    samples: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    @property
    def measurement(self) -> Measurement:
        """The times as onnxsmith compares them."""
        return Measurement(self.name, tuple(self.samples), tuple(self.rounds))


def main() -> None:
    """Print a table for each network, then the ratios to the peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--openvino", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--auto", action="store_true", help="also let onnxsmith choose the mode")
    parser.add_argument("--keep", type=Path, help="keep the models in this folder, and reuse them")
    arguments = parser.parse_args()
    if not arguments.openvino:
        print("OpenVINO and NNCF: not measured (--openvino names no interpreter)")
    for name in arguments.names or NETWORKS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = (arguments.keep or Path(scratch)) / name
            folder.mkdir(parents=True, exist_ok=True)
            network(arguments.folder / f"{name}.onnx", folder, arguments)


def network(source: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Make, time and print one network."""
    base = folder / "float32.onnx"
    if not base.exists():
        ours(["optimize", str(source), "-o", str(base), "--allow-slower"])
    feeds = inputs(base, arguments.images)
    one = write_feeds({name: array[:1] for name, array in feeds.items()}, folder)
    for name, rows in (("calibration", slice(PROBES, None)), ("probes", slice(0, PROBES))):
        np.savez(folder / name, **{key: array[rows] for key, array in feeds.items()})
    variants = make(source.stem, base, folder, arguments)
    for number in range(arguments.rounds):
        for variant in variants if number % 2 == 0 else variants[::-1]:
            turn(variant, number, one, folder)
    show(source.stem, variants)


def inputs(model: Path, images: Path | None) -> Arrays:
    """Return samples to probe and calibrate with, the probes first."""
    spec = Artifact.load(model).spec
    generator = np.random.default_rng(SEED)
    count = PROBES + CALIBRATION
    feeds: Arrays = {}
    for value in spec.inputs:
        shape = [count, *[d if isinstance(d, int) else 128 for d in (value.shape or ())[1:]]]
        if value.name == "image":
            feeds["image"] = (
                pictures(images, count, shape[2])
                if images
                else generator.standard_normal(shape, np.float32)
            )
        elif "mask" in value.name:
            feeds[value.name] = np.ones(shape, value.dtype)
        else:
            feeds[value.name] = generator.integers(0, 30000, shape).astype(value.dtype)
    return feeds


def pictures(folder: Path, count: int, size: int) -> np.ndarray[Any, Any]:
    """Return photographs as ImageNet networks take them."""
    from PIL import Image

    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    arrays = []
    for path in sorted(folder.iterdir())[:count]:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((size, size))) / 255.0
        arrays.append(((pixels - mean) / deviation).transpose(2, 0, 1))
    return np.stack(arrays).astype(np.float32)


def ours(arguments: list[str]) -> None:
    """Run onnxsmith."""
    command = [sys.executable, "-P", "-m", "onnxsmith", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make(name: str, base: Path, folder: Path, arguments: argparse.Namespace) -> list[Variant]:
    """Quantize by every tool; one that fails is said and left out."""
    kind, modes = NETWORKS[name]
    own = {mode: ["--mode", mode] for mode in modes}
    if arguments.auto:
        own["auto"] = [
            "--mode",
            "auto",
            "--eval-data",
            f"npz:{folder / 'probes.npz'}",
            "--threads",
            str(THREADS),
        ]
    programs = [
        (
            f"onnxsmith {mode}",
            sys.executable,
            quantizers.OURS,
            quantizers.OURS_WORK.format(options=options),
            ".onnx",
        )
        for mode, options in own.items()
    ]
    peer = quantizers.ORT_STATIC if kind == "convolutional" else quantizers.ORT_DYNAMIC
    programs.append((PEER, sys.executable, quantizers.ORT, peer, ".onnx"))
    variants = [Variant(FLOAT, base)]
    if arguments.openvino:
        programs.append((NNCF, arguments.openvino, quantizers.NNCF, quantizers.NNCF_WORK, ".xml"))
        variants.append(Variant(OPENVINO_FLOAT, base, arguments.openvino))
    for label, python, imports, work, ending in programs:
        variant = Variant(label, folder / f"{label.replace(' ', '-')}{ending}", python)
        if quantized(
            variant, base, folder, kind, quantizers.MEASURED.format(imports=imports, work=work)
        ):
            variants.append(variant)
    return variants


def quantized(variant: Variant, base: Path, folder: Path, kind: str, program: str) -> bool:
    """Make the variant's file, unless it is there."""
    record = variant.path.with_suffix(".json")
    if not (variant.path.exists() and record.exists()):
        files = [str(base), str(variant.path), str(folder / "calibration.npz"), kind]
        done = subprocess.run(
            [variant.python, "-P", "-c", program, *files],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if done.returncode or not lines:
            print(
                f"{variant.name} fails: {(done.stderr.strip().splitlines() or ['no word'])[-1]}",
                flush=True,
            )
            return False
        record.write_text(lines[-1].removeprefix("RESULT "))
    variant.seconds, variant.peak = json.loads(record.read_text())
    return True


def turn(variant: Variant, number: int, feeds: str, folder: Path) -> None:
    """Time one variant once, and in its first turn keep its outputs."""
    wanted = variant.outputs is None
    if variant.python == sys.executable:
        job = Job(str(variant.path), feeds=feeds, threads=THREADS, runs=RUNS, warmup=5)
        samples = list(measure_in_process(job, folder, 600).samples_ms)
        if wanted:
            variant.outputs = outputs(variant.path, folder / "probes.npz")
    else:
        kept = folder / "outputs.npy"
        words = [
            str(variant.path),
            feeds,
            str(folder / "probes.npz"),
            str(kept) if wanted else "",
            str(THREADS),
            str(RUNS),
        ]
        done = subprocess.run(
            [variant.python, "-P", "-c", quantizers.OPENVINO, *words],
            capture_output=True,
            text=True,
            check=True,
        )
        samples = json.loads(done.stdout.rpartition("RESULT ")[2])
        if wanted:
            variant.outputs = np.load(kept)
    variant.samples += samples
    variant.rounds += [number] * len(samples)


def outputs(path: Path, probes: Path) -> np.ndarray[Any, Any]:
    """Return the first output for each probe."""
    arrays = dict(np.load(probes))
    with Session(Artifact.load(path), threads=THREADS) as session:
        name = session.spec.outputs[0].name
        rows = [
            session.run({key: array[i : i + 1] for key, array in arrays.items()}, [name])[name]
            for i in range(PROBES)
        ]
    return np.concatenate(rows)


def noise(variant: Variant, reference: Variant) -> str:
    """Return the signal to noise against the reference."""
    assert variant.outputs is not None and reference.outputs is not None  # noqa: PT018 - the first turn took them
    exact = reference.outputs.astype(np.float64)
    error = float(np.square(variant.outputs - exact).sum())
    return f"{10 * np.log10(np.square(exact).sum() / error):.1f}" if error else "exact"


def show(name: str, variants: list[Variant]) -> None:
    """Print what was found about a network."""
    base = variants[0]
    heads = (name, "ms", f"times {FLOAT}", "SNR dB", "file MB", "quantizing s", "peak MiB")
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for variant in variants:
        if variant is base:
            ratio = "1"
        else:
            found = compare(base.measurement, variant.measurement)
            ratio = f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})"
        data = variant.path.with_suffix(".bin") if variant.path.suffix == ".xml" else variant.path
        made = (
            ["", ""]
            if variant.seconds is None
            else [f"{variant.seconds:.1f}", f"{variant.peak:.0f}"]
        )
        cells = [
            variant.name,
            f"{variant.measurement.p50_ms:.2f}",
            ratio,
            noise(variant, base),
            f"{data.stat().st_size / 1e6:.1f}",
            *made,
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    for mine in (v for v in variants if v.name.startswith("onnxsmith")):
        for peer in (v for v in variants if v.name in (PEER, NNCF)):
            print(f"- {compare(peer.measurement, mine.measurement).sentence()}", flush=True)


if __name__ == "__main__":
    main()
