"""Time a training step against torch and Keras, and score twenty seeds on MNIST.

The network is 784-128-10 with Relu, Adam, cross-entropy, batch 32. Every side runs in a process of
its own, one after the other and again; processor time of one thread is compared, which neighbours
on a shared machine disturb least. Each side draws its batches from a shuffled array in memory, and
reads the loss of every step.

    python benchmarks/train.py [--keras PYTHON] [--ort-training PYTHON] [--rounds 5]
        [--batch 32] [--mnist DIR]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS, WARM = 1000, 100
SEEDS = 20
SIZES = {"a": (128, 784), "b": (128,), "c": (10, 128), "d": (10,)}


def main() -> None:
    """Run all sides alternated and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keras", metavar="PYTHON")
    parser.add_argument("--ort-training", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.batch, *samples(arguments.samples))))
        return
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "samples.npz")
        keep_samples(kept, arguments.mnist)
        others = {"keras": arguments.keras, "ort": arguments.ort_training}
        times = compare(arguments.rounds, arguments.batch, others, kept)
    ours = times["onnxsmith"]
    for side, values in times.items():
        ratio = statistics.median(o / v for o, v in zip(ours, values, strict=True))
        middle = statistics.median(values)
        print(f"{side:10} {middle:7.3f} ms a step   onnxsmith takes {ratio:.2f} of it")
    if arguments.mnist:
        score(arguments.mnist)


def compare(
    rounds: int, batch: int, others: dict[str, str | None], kept: Path
) -> dict[str, list[float]]:
    """Return each side's milliseconds a step, one value a round."""
    pythons = {"onnxsmith": sys.executable, "torch": sys.executable}
    pythons |= {side: python for side, python in others.items() if python}
    times: dict[str, list[float]] = {side: [] for side in pythons}
    for _ in range(rounds):
        for side, python in pythons.items():
            command = [python, __file__, "--side", side, "--batch", str(batch)]
            command += ["--samples", str(kept)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            times[side].append(json.loads(done.stdout.splitlines()[-1]))
    return times


def keep_samples(path: Path, mnist: Path | None) -> None:
    """Write 6,000 images and labels for all sides: of MNIST, or made up."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((6000, 784), np.float32), rng.integers(0, 10, 6000)
    if mnist is not None:
        from onnxsmith.pipeline.data import open_data

        batch = next(open_data(f"mnist:{mnist}?split=train&scale=1/255").batches(6000))
        images = next(iter(batch.inputs.values())).reshape(6000, 784).astype(np.float32)
        labels = np.asarray(batch.labels, np.int64)
    np.savez(path, images=images, labels=labels)


def samples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and the labels."""
    with np.load(path) as kept:
        return kept["images"], kept["labels"]


def model() -> bytes:
    """Return the network as ONNX, with random weights."""
    import onnx
    import onnx.parser

    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[n, 784] x) => (float[n, 10] y)'
        "{ h = Gemm <transB = 1> (x, a, b) r = Relu(h) y = Gemm <transB = 1> (r, c, d) }"
    )
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in SIZES.items():
        limit = (6 / sum(shape)) ** 0.5 if len(shape) > 1 else 0.0
        array = rng.uniform(-limit, limit, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto.SerializeToString()


def run_onnxsmith(batch: int, images: np.ndarray, labels: np.ndarray) -> float:
    """Return milliseconds a step on the plain runtime."""
    import onnx

    from onnxsmith.artifact import Artifact
    from onnxsmith.pipeline.training.graphs import gradient_graph
    from onnxsmith.pipeline.training.losses.table import make_loss
    from onnxsmith.pipeline.training.optimizers.table import make_optimizer
    from onnxsmith.pipeline.training.stepper import StepOptions, Stepper

    artifact = Artifact.from_proto(onnx.load_from_string(model()))
    held = artifact.model.graph.initializers
    weights = {name: held[name].const_value.numpy() for name in SIZES}
    graph = gradient_graph(artifact, list(SIZES), make_loss("cross-entropy"))
    options = StepOptions(make_optimizer("adam"), threads=1)
    with Stepper(graph, weights, {}, options) as stepper:

        def step(chosen: np.ndarray) -> float:
            loss = stepper.gradient({"x": images[chosen]}, labels[chosen])
            stepper.update(1e-3)
            return loss

        return timed(step, batch, len(images))


def run_torch(batch: int, images: np.ndarray, labels: np.ndarray) -> float:
    """Return milliseconds a step of torch in eager mode."""
    import torch

    torch.set_num_threads(1)
    layers = [torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)]
    network = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters())
    pictures, classes = torch.from_numpy(images), torch.from_numpy(labels)

    def step(chosen: np.ndarray) -> float:
        picked = torch.from_numpy(chosen)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(pictures[picked]), classes[picked])
        loss.backward()
        optimizer.step()
        return loss.item()

    return timed(step, batch, len(images))


def run_keras(batch: int, images: np.ndarray, labels: np.ndarray) -> float:
    """Return milliseconds a step of Keras' own loop."""
    import os

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    dense = keras.layers.Dense
    network = keras.Sequential([keras.Input((784,)), dense(128, "relu"), dense(10)])
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(images, labels, batch_size=batch, epochs=1, verbose=0)
    epochs = max(STEPS * batch // len(images), 1)
    start = time.process_time()
    network.fit(images, labels, batch_size=batch, epochs=epochs, verbose=0)
    steps = epochs * -(-len(images) // batch)
    return (time.process_time() - start) / steps * 1e3


def run_ort(batch: int, images: np.ndarray, labels: np.ndarray) -> float:
    """Return milliseconds a step of onnxruntime-training, whose last version is 1.19.2."""
    import onnx
    import onnxruntime
    from onnxruntime.training import artifacts
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    proto = onnx.load_from_string(model())
    proto.ir_version, proto.opset_import[0].version = 8, 14
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        artifacts.generate_artifacts(
            proto,
            requires_grad=list(SIZES),
            loss=artifacts.LossType.CrossEntropyLoss,
            optimizer=artifacts.OptimType.AdamW,
            artifact_directory=folder,
        )
        state = CheckpointState.load_checkpoint(f"{folder}/checkpoint")
        paths = (f"{folder}/training_model.onnx", f"{folder}/eval_model.onnx")
        network = Module(paths[0], state, paths[1], session_options=options)
        optimizer = Optimizer(f"{folder}/optimizer_model.onnx", network)
    network.train()

    def step(chosen: np.ndarray) -> float:
        loss = network(images[chosen], labels[chosen])
        optimizer.step()
        network.lazy_reset_grad()
        return float(loss)

    return timed(step, batch, len(images))


SIDES = {"onnxsmith": run_onnxsmith, "torch": run_torch, "keras": run_keras, "ort": run_ort}


def timed(step: object, batch: int, count: int) -> float:
    """Return the milliseconds of processor time that a step takes."""
    assert callable(step)
    rng = np.random.default_rng(1)
    orders = [rng.permutation(count)[:batch] for _ in range(STEPS + WARM)]
    for chosen in orders[:WARM]:
        step(chosen)
    start = time.process_time()
    for chosen in orders[WARM:]:
        step(chosen)
    return (time.process_time() - start) / STEPS * 1e3


def score(folder: Path) -> None:
    """Print the test accuracy after five epochs: the median of all seeds and of the first five."""
    import onnx

    from onnxsmith.artifact import Artifact
    from onnxsmith.pipeline.training.request import TrainRequest
    from onnxsmith.pipeline.training.train import train

    artifact = Artifact.from_proto(onnx.load_from_string(model()))
    data = f"mnist:{folder}?scale=1/255&split="
    found = []
    for seed in range(SEEDS):
        request = TrainRequest(
            f"{data}train", f"{data}test", metrics=("accuracy",), seed=seed, epochs=5
        )
        found.append(train(artifact, request).epochs[-1].metrics["accuracy"])
    for some in (found, found[:5]):
        middle = statistics.median(some)
        print(f"MNIST, five epochs, {len(some)} seeds: median {middle:.4f} of {sorted(some)}")


if __name__ == "__main__":
    main()
