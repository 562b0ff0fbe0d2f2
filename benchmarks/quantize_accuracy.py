"""What quantizing costs trained models in accuracy, and what the accuracy helpers give back.

Models are quantized by each mode, calibrated on 256 training samples and scored on all held-out
ones; ONNX Runtime's own quantizer stands beside (U8S8, a scale for each channel, min-max).

The signal to noise is that of the first output against the float model's, on 2,000 held-out samples
or what there is.
UltraFace, a network of depthwise convolutions, has no labels here: its outputs on photographs that
it was not calibrated on are compared.

    python benchmarks/quantize_accuracy.py MATERIAL [--kws MODEL.onnx] [--transformer MODEL.onnx]
        [--only NAME]...

MATERIAL holds datasets/mnist, datasets/kws01_mlperf_tiny, datasets/imagenet_sample,
models/onnx/mnist-8, models/onnx/ultraface, models/caffe/lenet_mnist and models/mxnet/mnist_cnn.
MODEL is the keyword spotter of MLPerf Tiny,
models/tensorflow/mlperf_tiny_kws_savedmodel, converted by onnxsmith where TensorFlow is installed;
of its 1,000 samples a fifth calibrates, chosen by a hash, and the others score. The transformer is
what `onnxsmith train benchmarks/sources/transformer.yaml` makes; "with outliers" it computes the
same from activations some channels of which are 50 times as large.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sources.outliers import with_outliers

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.manager import PassManager
from onnxsmith.pipeline.data import feeds, open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize
from onnxsmith.runtime.session import Session

# Where a network is sure of most samples, the few others make nearly all of the noise.
_NOISE_SAMPLES = 2000
_PEER_OPSET = 17  # an older model gets it, so that it can hold a scale for each channel
_FEATURES = "label=y&scale=0.5847&mean=48.5301"
HELPERS = "equalize-layers,round-weights"
WAYS: dict[str, dict[str, Any]] = {
    "static": {"mode": "static"},
    "static, ranges by minmax": {"mode": "static", "method": "minmax"},
    "static, correct-biases": {"mode": "static", "prepare": "correct-biases"},
    "static, round-weights": {"mode": "static", "prepare": "round-weights"},
    "static, smooth-quant": {"mode": "static", "prepare": "smooth-quant"},
    "static, prepared": {"mode": "static", "prepare": HELPERS},
    "static, one scale a weight": {"mode": "static", "per_channel": False},
    "static, one scale a weight, prepared": {
        "mode": "static",
        "per_channel": False,
        "prepare": "equalize-layers,round-weights:per-channel=false",
    },
    "static, int4 weights": {"mode": "static", "weights": "int4"},
    "static, int4 weights, prepared": {
        "mode": "static",
        "weights": "int4",
        "prepare": "equalize-layers,round-weights:bits=4",
    },
    "dynamic": {"mode": "dynamic"},
    "weight-only, 8 bits": {"mode": "weight-only", "bits": 8},
}


@dataclass(frozen=True)
class Task:
    """A trained model with its data, labelled or not."""

    name: str
    model: Artifact
    train: str
    test: str
    labelled: bool = True


class Reader(CalibrationDataReader):
    """Samples for ONNX Runtime's quantizer."""

    def __init__(self, task: Task) -> None:
        self._rows = samples(task)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the next batch."""
        return next(self._rows, None)


def samples(task: Task) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """Yield the calibration batches."""
    source = open_data(task.train, task.model.spec)
    for feed in islice(feeds(source, task.model.spec, 8), 32):
        yield feed.inputs


def tasks(material: Path, kws: Path | None, transformer: Path | None) -> Iterator[Task]:
    """Yield the models that are there."""
    mnist = f"mnist:{material / 'datasets/mnist'}"
    folder = material / "models"
    caffe = folder / "caffe/lenet_mnist"
    for name, source, weights, scale in (
        ("mnist-8", folder / "onnx/mnist-8/mnist.onnx", None, "1"),
        (
            "Caffe LeNet",
            caffe / "lenet_deploy.prototxt",
            caffe / "lenet_iter_10000.caffemodel",
            "1/256",
        ),
        ("MXNet CNN", folder / "mxnet/mnist_cnn/mnist-symbol.json", None, "1/255"),
    ):
        inputs = ["data:float32[N,1,28,28]"] if name.startswith("MXNet") else []
        model = convert(source, weights=weights, inputs=inputs).artifact
        data = f"{mnist}?scale={scale}"
        yield Task(name, model, f"{data}&split=train&limit=256", f"{data}&split=test")
    if kws is not None:
        # The features are stored as int8, as the int8 model takes them. What a hash of the samples
        # puts aside, a fifth, calibrates: the larger part tells more where it scores.
        data = f"npz:{material / 'datasets/kws01_mlperf_tiny/kws01.npz'}?{_FEATURES}"
        model = Artifact.load(kws)
        yield Task("keyword spotting", model, f"{data}&split=test", f"{data}&split=train")
    if transformer is not None:
        data, model = f"{mnist}?scale=1/255", Artifact.load(transformer)
        train, test = f"{data}&split=train&limit=256", f"{data}&split=test"
        yield Task("transformer", model, train, test)
        yield Task("transformer with outliers", with_outliers(model), train, test)
    with tempfile.TemporaryDirectory() as scratch:
        train, test = photographs(material / "datasets/imagenet_sample/images", Path(scratch))
        model = convert(folder / "onnx/ultraface/version-slim-320.onnx").artifact
        yield Task("UltraFace slim", model, train, test, labelled=False)


def photographs(images: Path, folder: Path) -> tuple[str, str]:
    """Return data sources of 48 photographs to calibrate with and 15 to compare on."""
    from PIL import Image

    arrays = []
    for path in sorted(images.iterdir()):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((320, 240)), np.float32)
        arrays.append(((pixels - 127) / 128).transpose(2, 0, 1))
    np.savez(folder / "train.npz", input=np.stack(arrays[:48]))
    np.savez(folder / "test.npz", input=np.stack(arrays[48:]))
    return f"npz:{folder / 'train.npz'}", f"npz:{folder / 'test.npz'}"


def accuracy(task: Task, model: Artifact) -> float | None:
    """Return the share of right answers; None without labels."""
    if not task.labelled:
        return None
    with Session(model, threads=2) as session:
        source = open_data(task.test, model.spec)
        return evaluate(session, source, ["accuracy"]).metrics["accuracy"]


def noise(task: Task, model: Artifact) -> float:
    """Return the signal to noise of the first output, in dB."""
    signal = error = 0.0
    with Session(task.model) as exact, Session(model) as session:
        seen = 0
        for feed in feeds(open_data(task.test, model.spec), model.spec, 64):
            name = task.model.spec.outputs[0].name
            expected = exact.run(feed.inputs, [name])[name].astype(np.float64)
            signal += float(np.square(expected).sum())
            error += float(np.square(session.run(feed.inputs, [name])[name] - expected).sum())
            seen += feed.count
            if seen >= _NOISE_SAMPLES:
                break
    return 10 * np.log10(signal / error) if error else np.inf


def peer(task: Task) -> Artifact:
    """Return what ONNX Runtime's quantizer makes."""
    newer = task.model
    if version_of(newer.model) < _PEER_OPSET:
        newer = PassManager([ConvertOpset(_PEER_OPSET)], PassContext()).run(newer).artifact
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        newer.save(source)
        quantize_static(
            source,
            target,
            Reader(task),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return Artifact.from_proto(Artifact.load(target).to_proto())


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("material", type=Path)
    parser.add_argument("--kws", type=Path)
    parser.add_argument("--transformer", type=Path)
    parser.add_argument("--only", action="append", help="a task, by its name; may be repeated")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # advice that the peer's quantizer gives
    for task in tasks(arguments.material, arguments.kws, arguments.transformer):
        if arguments.only and task.name not in arguments.only:
            continue
        before = accuracy(task, task.model)
        heads = (task.name, "accuracy %", "points", "SNR dB", "weights kB", "times smaller")
        print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        row("float32", task, task.model, before)
        row("ONNX Runtime static", task, peer(task), before)
        for name, options in WAYS.items():
            try:
                result = quantize(
                    task.model, QuantizeRequest(data=task.train, threads=2, **options)
                )
            except SmithError as error:
                print(f"| {name} | {error.message} | | | |", flush=True)
                continue
            row(name, task, result.artifact, before)


def row(name: str, task: Task, model: Artifact, before: float | None) -> None:
    """Print one model's figures."""
    found, size = accuracy(task, model), model.size_bytes
    cells = (
        name,
        f"{100 * found:.2f}" if found is not None else "",
        f"{100 * (found - before):+.2f}" if found is not None and before is not None else "",
        f"{noise(task, model):.1f}",
        f"{size / 1e3:.1f}",
        f"{task.model.size_bytes / size:.2f}",
    )
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
