import json
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.runtime import bench as bench_module
from onnxsmith.runtime.bench import bench, unique_names
from onnxsmith.runtime.bench_worker import (
    Job,
    RoundResult,
    _feeds,
    concrete_spec,
    measure_round,
)
from onnxsmith.runtime.turn import measure_in_process, write_feeds
from onnxsmith.spec import ModelSpec, ValueSpec

SMALL = """<ir_version: 10, opset_import: ["": 21]>
small (float[batch, 8] x) => (float[batch, 8] y) { y = Relu(x) }"""


def save(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def chain(count: int) -> str:
    """Return a model of ``count`` products of 64 x 64 matrices, one after the other."""
    steps = " ".join(f"v{i + 1} = MatMul(v{i}, x)" for i in range(count))
    return f"""<ir_version: 10, opset_import: ["": 21]>
    chain (float[64, 64] x) => (float[64, 64] y) {{ v0 = Tanh(x) {steps} y = Relu(v{count}) }}"""


def spec(*inputs: str) -> ModelSpec:
    return ModelSpec(tuple(ValueSpec.parse(text) for text in inputs), ())


def test_ten_times_the_work_is_found_slower_and_everything_is_reported(tmp_path):
    paths = [save(tmp_path, "short.onnx", chain(4)), save(tmp_path, "long.onnx", chain(120))]
    result = bench(paths, rounds=3, runs=15, warmup=2, threads=1)
    short, long = result.measurements
    assert (short.name, long.name) == ("short.onnx", "long.onnx")
    assert len(short.samples_ms) == 45
    assert [len(samples) for samples in short.by_round()] == [15, 15, 15]
    assert short.providers == ("CPUExecutionProvider",)
    assert short.load_ms is not None
    assert 0 < short.load_ms < 10_000
    assert short.peak_memory_bytes is not None
    assert 20e6 < short.peak_memory_bytes < 1e9
    (comparison,) = result.comparisons
    assert (comparison.baseline, comparison.candidate) == ("short.onnx", "long.onnx")
    assert comparison.verdict == "slower"
    assert comparison.ratio < 0.5
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["settings"]["rounds"] == 3
    assert data["settings"]["isolated"] is True
    assert data["measurements"][0]["samples_ms"] == list(short.samples_ms)
    assert str(tmp_path) not in json.dumps(data)


def test_models_take_turns_and_the_order_turns_around(tmp_path, monkeypatch):
    order: list[str] = []

    def note(job: Job) -> RoundResult:
        order.append(Path(job.model).stem)
        return RoundResult((1.0,), 1.0, 5, ("CPUExecutionProvider",))

    monkeypatch.setattr(bench_module, "measure_round", note)
    paths = [save(tmp_path, f"{name}.onnx", SMALL) for name in "abc"]
    result = bench(paths, rounds=3, isolate=False)
    assert "".join(order) == "abc" + "cba" + "abc"
    # This process holds all models: its memory is none of theirs.
    assert [m.peak_memory_bytes for m in result.measurements] == [None] * 3


def test_in_process_measures_too(tmp_path):
    result = bench([save(tmp_path, "a.onnx", SMALL)], rounds=1, runs=4, isolate=False)
    assert len(result.measurements[0].samples_ms) == 4
    assert result.comparisons == ()


def test_throughput_counts_the_items_of_a_batch(tmp_path):
    path = save(tmp_path, "a.onnx", SMALL)
    for options in ({"batch": 16}, {"dims": {"batch": 16}}):
        (found,) = bench([path], rounds=1, runs=3, isolate=False, **options).measurements
        assert found.batch_size == 16
        assert found.throughput == pytest.approx(16_000 / found.mean_ms)


def test_a_round_without_a_number_of_runs_takes_a_quarter_of_a_second(tmp_path):
    quick = measure_round(Job(str(save(tmp_path, "a.onnx", SMALL))))
    assert len(quick.samples_ms) == 500
    slow = measure_round(Job(str(save(tmp_path, "b.onnx", chain(1500))), threads=1))
    assert 10 <= len(slow.samples_ms) < 500


def test_given_inputs_reach_the_model(tmp_path):
    # Only the given inputs make this model run: 7 is no multiple of the 2 that made-up ones have.
    text = """<ir_version: 10, opset_import: ["": 21]>
    picky (float[n] x, string[m] t) => (float[7] y, string[m] u)
    <int64[1] seven = {7}> { y = Reshape(x, seven) u = Identity(t) }"""
    path = save(tmp_path, "picky.onnx", text)
    feeds = {"x": np.ones(7, np.float32), "t": np.array(["a", "bc"], dtype=object)}
    for isolate in (True, False):
        result = bench([path], rounds=1, runs=2, isolate=isolate, feeds=feeds)
        assert len(result.measurements[0].samples_ms) == 2
    with pytest.raises(SmithError, match=r"^picky\.onnx: running the model failed"):
        bench([path], rounds=1, runs=2, isolate=False)


def test_bfloat16_inputs_and_odd_names_survive_the_way_to_the_worker(tmp_path):
    text = """<ir_version: 10, opset_import: ["": 21]>
    brain (bfloat16[4] file) => (float[4] y) { y = Cast<to: int = 1>(file) }"""
    values = np.arange(4).astype(ml_dtypes.bfloat16)
    job = Job(str(save(tmp_path, "a.onnx", text)), write_feeds({"file": values}, tmp_path))
    feeds = _feeds(job, Artifact.load(job.model))
    assert feeds["file"].dtype == ml_dtypes.bfloat16
    assert np.array_equal(feeds["file"], values)
    assert len(measure_round(replace(job, runs=2)).samples_ms) == 2


def test_free_dimensions_become_one_unless_named_or_the_batch():
    signature = spec("x:float32[N,3,H,?]", "s:float32[]")
    fixed = concrete_spec(signature, {"H": 5}, None)
    assert [v.shape for v in fixed.inputs] == [(1, 3, 5, 1), ()]
    assert concrete_spec(signature, {"N": 2, "H": 5}, 4).inputs[0].shape == (4, 3, 5, 1)
    with pytest.raises(SmithError, match="fixed first axis, so a batch of 4"):
        concrete_spec(spec("x:float32[1,3]"), {}, 4)
    assert concrete_spec(spec("x:float32[4,3]"), {}, 4).inputs[0].shape == (4, 3)


def test_names_are_made_unique():
    paths = [Path("a/m.onnx"), Path("b/m.onnx"), Path("a/m.onnx")]
    assert unique_names(paths) == ["a/m.onnx", "b/m.onnx", "a/m.onnx (2)"]
    assert unique_names([Path("x/a.onnx"), Path("y/b.onnx")]) == ["a.onnx", "b.onnx"]
    assert unique_names([Path("m.onnx"), Path("m.onnx")]) == ["m.onnx", "m.onnx (2)"]


def test_bad_requests_are_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_module, "measure_in_process", None)
    path = save(tmp_path, "a.onnx", SMALL)
    with pytest.raises(UsageError, match="no models"):
        bench([])
    with pytest.raises(UsageError, match="2 rounds are too few"):
        bench([path, path], rounds=2)
    with pytest.raises(UsageError, match="no model has the dimension 'N'") as raised:
        bench([path], dims={"N": 3})
    assert raised.value.hint == "their dimensions: batch"
    with pytest.raises(UsageError, match="cannot measure"):
        bench([path], runs=0)
    with pytest.raises(SmithError, match="cannot read"):
        bench([path, tmp_path / "missing.onnx"])


def test_a_missing_provider_is_an_error_that_names_the_model(tmp_path):
    path = save(tmp_path, "a.onnx", SMALL)
    with pytest.raises(SmithError, match=r"^a\.onnx: .*NoSuchProvider"):
        bench([path], providers=["NoSuchProvider"], rounds=1)


def test_a_worker_that_takes_too_long_is_ended(tmp_path):
    path = save(tmp_path, "a.onnx", SMALL)
    with pytest.raises(SmithError, match=r"^a\.onnx: one round took more than 0\.01 seconds"):
        bench([path], rounds=1, timeout_s=0.01)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("import sys; sys.exit('no luck')", "failed with exit code 1: no luck"),
        ("", "failed with exit code 0: it said nothing"),
    ],
)
def test_a_worker_that_crashes_is_an_error(tmp_path, monkeypatch, program, message):
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}"\n')
    fake.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(fake))
    with pytest.raises(SmithError, match=message):
        measure_in_process(Job("a.onnx"), tmp_path, 60)


def test_feeds_are_written_without_pickles(tmp_path):
    path = write_feeds({"t": np.array(["ä", "b"], dtype=object), "x": np.eye(2)}, tmp_path)
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["t"].tolist() == ["ä", "b"]
        assert np.array_equal(arrays["x"], np.eye(2))
