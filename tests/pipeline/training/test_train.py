"""The training loop: it learns, resumes bit by bit, and says what is wrong."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import RefusedError, SmithError, UsageError
from onnxsmith.pipeline.training.batches import Shuffled
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

TRAIN, TEST = "digits?split=train&scale=1/16", "digits?split=test&scale=1/16"
REQUEST = TrainRequest(TRAIN, TEST, rate=3e-3, epochs=4, metrics=("accuracy",), threads=1)


def network(body: str, shapes: dict[str, tuple[int, ...]], shape: str = "n, 64") -> Artifact:
    head = '<ir_version: 10, opset_import: ["" : 21]>'
    signature = f"g (float[{shape}] x) => (float[n, 10] y)"
    proto = onnx.parser.parse_model(f"{head} {signature} {{ {body} }}")
    rng = np.random.default_rng(0)
    for name, size in shapes.items():
        limit = np.sqrt(6 / (size[0] + size[-1])) if len(size) > 1 else 0
        array = rng.uniform(-limit, limit, size)
        if name in ("scale", "variance"):
            array = np.ones(size)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return Artifact.from_proto(proto)


def perceptron(between: str = "r = Relu(h)") -> Artifact:
    return network(
        f"h = Gemm(x, a, b) {between} y = Gemm(r, c, d)",
        {"a": (64, 32), "b": (32,), "c": (32, 10), "d": (10,)},
    )


def normalized() -> Artifact:
    return network(
        "h = Conv <pads = [1, 1, 1, 1]> (x, k) m = BatchNormalization(h, scale, b, mean, variance)"
        "r = Relu(m) p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)"
        "f = Flatten(p) y = Gemm(f, c, d)",
        {
            "k": (8, 1, 3, 3), "scale": (8,), "b": (8,), "mean": (8,), "variance": (8,),
            "c": (128, 10), "d": (10,),
        },
        "n, 1, 8, 8",
    )  # fmt: skip


def weights(artifact: Artifact) -> dict[str, np.ndarray]:
    held = artifact.model.graph.initializers
    return {name: value.const_value.numpy() for name, value in held.items()}


def test_a_perceptron_learns_digits() -> None:
    result = train(perceptron(), REQUEST)
    assert result.parameters == 64 * 32 + 32 + 32 * 10 + 10
    assert result.epochs[-1].metrics["accuracy"] > 0.9
    assert result.epochs[-1].loss < result.epochs[0].loss / 2
    assert [node.op_type for node in result.artifact.model.graph] == ["Gemm", "Relu", "Gemm"]
    assert result.artifact.history[-1].kind == "train"


def test_batch_statistics_are_remembered_for_inference() -> None:
    before = normalized()
    result = train(before, REQUEST)
    after = weights(result.artifact)
    assert result.epochs[-1].metrics["accuracy"] > 0.9
    assert np.abs(after["mean"]).max() > 0.01
    assert np.abs(after["variance"] - 1).max() > 0.01
    frozen = train(before, dataclasses.replace(REQUEST, batch_norm="frozen", epochs=1))
    for name in ("mean", "variance"):
        np.testing.assert_array_equal(weights(frozen.artifact)[name], weights(before)[name])


def test_patterns_freeze() -> None:
    before = perceptron()
    result = train(before, dataclasses.replace(REQUEST, freeze=("a", "b"), epochs=1))
    after = weights(result.artifact)
    np.testing.assert_array_equal(after["a"], weights(before)["a"])
    assert (after["c"] != weights(before)["c"]).any()
    with pytest.raises(SmithError, match="every parameter is frozen"):
        train(before, dataclasses.replace(REQUEST, freeze=("*",)))
    with pytest.raises(SmithError, match="no parameter is called 'q'"):
        train(before, dataclasses.replace(REQUEST, only=("q",)))


def test_accumulated_batches_are_one_large_batch() -> None:
    large = dataclasses.replace(REQUEST, batch_size=32, optimizer="sgd", rate=0.1, epochs=1)
    small = dataclasses.replace(large, batch_size=8, accumulate=4)
    first, second = (weights(train(perceptron(), r).artifact) for r in (large, small))
    # The last batches of an epoch are not of equal size: all but rounding is the same but there.
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=5e-3)


def test_pruned_weights_stay_zero_and_a_mean_of_weights_is_written() -> None:
    before = perceptron()
    held = before.model.graph.initializers["a"]
    pruned = held.const_value.numpy().copy()
    pruned[::2] = 0
    held.const_value = ir.Tensor(pruned)
    request = dataclasses.replace(REQUEST, keep_zeros=True, average=0.9, epochs=1)
    after = weights(train(before, request).artifact)
    assert (after["a"][::2] == 0).all()
    assert (after["a"][1::2] != 0).any()


@pytest.mark.parametrize("between", ["r = Relu(h)", "e = Relu(h) r = Dropout(e)"])
def test_resuming_is_bit_identical_to_an_unbroken_run(tmp_path: Path, between: str) -> None:
    request = dataclasses.replace(
        REQUEST, schedule="plateau:patience=1", clip=1.0, checkpoint=tmp_path / "unbroken"
    )
    unbroken = train(perceptron(between), request)
    broken = dataclasses.replace(request, checkpoint=tmp_path / "broken", resume=True)
    train(perceptron(between), dataclasses.replace(broken, epochs=2))
    resumed = train(perceptron(between), broken)
    for name, array in weights(unbroken.artifact).items():
        np.testing.assert_array_equal(weights(resumed.artifact)[name], array, err_msg=name)
    assert [e.loss for e in resumed.epochs] == [e.loss for e in unbroken.epochs]


def test_a_checkpoint_of_another_run_or_a_torn_one_is_refused(tmp_path: Path) -> None:
    request = dataclasses.replace(REQUEST, epochs=1, checkpoint=tmp_path, resume=True)
    train(perceptron(), request)
    with pytest.raises(SmithError, match="another run: optimizer differs"):
        train(perceptron(), dataclasses.replace(request, optimizer="sgd"))
    for change in ({"clip": 1.0}, {"average": 0.9}, {"no_decay": ("b",)}, {"lora": "rank=2"}):
        with pytest.raises(SmithError, match=f"another run: {next(iter(change))} differs"):
            train(perceptron(), dataclasses.replace(request, **change))
    other = tmp_path / "other"
    train(perceptron(), dataclasses.replace(request, clip=1.0, checkpoint=other))
    with pytest.raises(SmithError, match="another run: clip differs"):
        train(perceptron(), dataclasses.replace(request, checkpoint=other))
    other = perceptron()
    held = other.model.graph.initializers["a"]
    held.const_value = ir.Tensor(held.const_value.numpy() * np.float32(1.5), name="a")
    with pytest.raises(SmithError, match="another run: model differs"):
        train(other, request)
    path = tmp_path / "checkpoint.npz"
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(SmithError, match="is damaged"):
            train(perceptron(), request)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(flipped))
    with pytest.raises(SmithError, match=r"is damaged|does not fit"):
        train(perceptron(), request)


def test_a_loss_that_is_not_finite_names_the_first_bad_tensor(tmp_path: Path) -> None:
    request = dataclasses.replace(REQUEST, rate=1e30, optimizer="sgd", checkpoint=tmp_path)
    with pytest.raises(RefusedError, match="first tensor that is not finite is '"):
        train(perceptron(), request)


def test_parameters_that_the_last_update_broke_are_no_checkpoint(tmp_path: Path) -> None:
    """The loss is finite, and no batch follows that would show it."""
    request = dataclasses.replace(
        REQUEST,
        data="digits?split=train",  # whose gradients are larger than one
        eval_data=None,
        metrics=(),
        optimizer="sgd",
        batch_size=2000,
        epochs=1,
        checkpoint=tmp_path,
    )
    train(perceptron(), dataclasses.replace(request, rate=1e-3))
    good = (tmp_path / "checkpoint.npz").read_bytes()
    with pytest.raises(RefusedError, match="is not finite after epoch 1"):
        train(perceptron(), dataclasses.replace(request, rate=3e38))
    assert (tmp_path / "checkpoint.npz").read_bytes() == good


def test_data_that_are_not_finite_are_blamed_on_themselves(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(8, 64)).astype(np.float32), rng.integers(0, 10, 8)
    x[3, 3] = np.nan
    np.savez(tmp_path / "d.npz", x=x, label=label)
    request = dataclasses.replace(
        REQUEST, data=f"npz:{tmp_path / 'd.npz'}", eval_data=None, metrics=()
    )
    with pytest.raises(RefusedError, match="not finite is 'x'") as caught:
        train(perceptron(), request)
    assert "clean" in caught.value.hint


def test_text_is_no_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 64), np.float32), label=np.array(list("abcd")))
    request = dataclasses.replace(
        REQUEST, data=f"npz:{tmp_path / 'd.npz'}", eval_data=None, metrics=()
    )
    with pytest.raises(SmithError, match="labels are text"):
        train(perceptron(), request)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 1e39}, "learning rate is 1e\\+39"),
        ({"rate": float("nan")}, "learning rate is nan"),
        ({"loss": "mse"}, "labels have shape"),
        ({"loss": "nothing"}, "nothing"),
        ({"mixup": 0.2}, "soft labels"),
        ({"resume": True}, "needs a folder"),
        ({"epochs": 0}, "epochs is below"),
        ({"output": "z"}, "no output 'z'"),
        ({"eval_data": TRAIN}, "both in --data"),
    ],
)
def test_wrong_requests(change: dict[str, object], words: str) -> None:
    with pytest.raises((SmithError, UsageError), match=words):
        train(perceptron(), dataclasses.replace(REQUEST, **change))


def test_labels_out_of_range_are_named() -> None:
    five = network("y = Gemm(x, a, b)", {"a": (64, 5), "b": (5,)})
    five.model.graph.outputs[0].shape = None
    with pytest.raises(SmithError, match="label 9 is none of the 5 classes"):
        train(Artifact(five.model), REQUEST)


def test_ignored_labels_may_be_no_class_and_do_not_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x, label = rng.normal(size=(40, 64)).astype(np.float32), rng.integers(0, 10, 40)
    hidden = np.where(np.arange(40) % 2, 255, label)
    np.savez(tmp_path / "all.npz", x=x, label=hidden)
    np.savez(tmp_path / "half.npz", x=x[::2], label=label[::2])
    request = dataclasses.replace(
        REQUEST, eval_data=None, metrics=(), optimizer="sgd", rate=0.1, batch_size=40, epochs=3
    )
    with pytest.raises(SmithError, match="label 255 is none of the 10 classes"):
        train(perceptron(), dataclasses.replace(request, data=f"npz:{tmp_path / 'all.npz'}"))
    found = [
        weights(
            train(
                perceptron(),
                dataclasses.replace(
                    request,
                    data=f"npz:{tmp_path / name}.npz",
                    loss="cross-entropy:ignore=255:smoothing=0.1",
                ),
            ).artifact
        )
        for name in ("all", "half")
    ]
    for name, array in found[0].items():
        np.testing.assert_allclose(array, found[1][name], rtol=1e-4, atol=1e-6)


def test_decay_leaves_named_parameters_alone() -> None:
    request = dataclasses.replace(
        REQUEST, optimizer="adamw:decay=50", rate=1e-3, epochs=1, no_decay=("b", "d")
    )
    decayed, kept = (
        weights(train(perceptron(), dataclasses.replace(request, no_decay=names)).artifact)
        for names in ((), ("c",))
    )
    assert np.abs(decayed["c"]).max() < 0.5 * np.abs(kept["c"]).max()
    with pytest.raises(SmithError, match="no parameter is called 'q'"):
        train(perceptron(), dataclasses.replace(request, no_decay=("q",)))


def test_a_row_is_logged_as_soon_as_its_epoch_is_done(tmp_path: Path) -> None:
    lines: list[int] = []
    log = tmp_path / "log.csv"
    request = dataclasses.replace(REQUEST, epochs=3, log=log)
    done: list[tuple[int, int, int]] = []
    train(
        perceptron(),
        request,
        lambda row: lines.append(len(log.read_text().splitlines())),
        lambda epoch, seen, total, loss: done.append((epoch, seen, total)),
    )
    assert lines == [2, 3, 4]
    assert log.read_text().splitlines()[0] == "epoch,updates,loss,rate,seconds,accuracy"
    assert done[0] == (1, 32, 1352)
    assert done[-1] == (3, 1352, 1352)
    assert len(done) == 3 * 43


@pytest.mark.parametrize("size", [32, 50])
def test_a_model_of_one_batch_size_is_trained_on_any_and_keeps_its_signature(size: int) -> None:
    fixed = network(
        "h = Gemm(x, a, b) r = Relu(h) y = Gemm(r, c, d)",
        {"a": (64, 32), "b": (32,), "c": (32, 10), "d": (10,)},
        "32, 64",
    )
    fixed.model.graph.outputs[0].shape = ir.Shape([32, 10])
    fixed = Artifact(fixed.model)
    request = dataclasses.replace(REQUEST, batch_size=size, epochs=1, metrics=("accuracy",))
    result = train(fixed, request)
    free = train(perceptron(), request)
    assert str(result.artifact.spec) == str(fixed.spec)
    assert result.epochs[0].loss == pytest.approx(free.epochs[0].loss, rel=1e-5)
    assert result.epochs[0].metrics == free.epochs[0].metrics


def test_mixup_learns() -> None:
    request = dataclasses.replace(REQUEST, mixup=0.2, loss="cross-entropy:labels=soft")
    assert train(perceptron(), request).epochs[-1].metrics["accuracy"] > 0.85


def test_orders_depend_on_seed_and_epoch_alone() -> None:
    from onnxsmith.pipeline.data import open_data

    artifact = perceptron()

    def order(memory: int, seed: int, epoch: int) -> list[int]:
        source = open_data(TRAIN, artifact.spec)
        batches = Shuffled(source, artifact.spec, 16, seed, memory)
        return [int(label) for batch in batches.epoch(epoch) for label in batch.labels]

    for memory in (2**30, 2**16):
        assert order(memory, 0, 1) == order(memory, 0, 1)
        assert order(memory, 0, 1) != order(memory, 0, 2)
        assert sorted(order(memory, 0, 1)) == sorted(order(memory, 1, 1))


def test_killed_at_any_moment_it_resumes_to_the_same_model(tmp_path: Path) -> None:
    """Half of the kills come after an epoch was done, half at any moment since the start."""
    perceptron("e = Relu(h) r = Dropout(e)").save(tmp_path / "in.onnx")

    def command(out: str, folder: str) -> list[str]:
        return [
            sys.executable, "-m", "onnxsmith", "train", str(tmp_path / "in.onnx"), "-o",
            str(tmp_path / out), "--data", TRAIN, "--epochs", "300", "--threads", "1",
            "--clip", "1", "--average", "0.9", "--recompute", "y",
            "--checkpoint", str(tmp_path / folder), "--resume",
        ]  # fmt: skip

    subprocess.run(command("whole.onnx", "whole"), check=True, capture_output=True)
    rng, seen = random.Random(5), set[bytes]()
    for round_ in range(20):
        with subprocess.Popen(
            command("broken.onnx", "broken"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None  # it was asked for
            if round_ % 2:
                seen.add(process.stdout.readline())
                time.sleep(rng.uniform(0, 0.05))
            else:
                time.sleep(rng.uniform(0.2, 1.2))
            process.kill()
    epochs = {line.partition(b"/")[0] for line in seen if line.startswith(b"epoch ")}
    assert len(epochs) > 4, seen  # so many kills came in the middle of it
    subprocess.run(command("broken.onnx", "broken"), check=True, capture_output=True)
    whole, broken = (Artifact.load(tmp_path / f"{n}.onnx") for n in ("whole", "broken"))
    for name, array in weights(whole).items():
        np.testing.assert_array_equal(weights(broken)[name], array)


@pytest.mark.parametrize(
    "change",
    [
        {"lora": "rank=4"},
        {"qat": True},
        {"private": "noise=1:clip=1:delta=0.001"},
        {"accumulate": 3},
        {"precision": "float16"},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("recompute", [(), ("y",)], ids=["kept", "again"])
def test_all_kinds_resume_bit_by_bit(
    tmp_path: Path, change: dict[str, Any], recompute: tuple[str, ...]
) -> None:
    request = dataclasses.replace(REQUEST, recompute=recompute, epochs=3, **change)
    between = "e = Relu(h) r = Dropout(e)"
    unbroken = train(perceptron(between), request)
    broken = dataclasses.replace(request, checkpoint=tmp_path, resume=True)
    train(perceptron(between), dataclasses.replace(broken, epochs=1))
    resumed = train(perceptron(between), broken)
    for name, array in weights(unbroken.artifact).items():
        np.testing.assert_array_equal(weights(resumed.artifact)[name], array, err_msg=name)
    assert [e.loss for e in resumed.epochs] == [e.loss for e in unbroken.epochs]
