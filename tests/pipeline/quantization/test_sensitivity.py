# ruff: noqa: E501 - a graph is easier read in one line
"""What each layer costs: one quantized at a time, from ranges that are measured once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.pipeline.quantization import sensitivity as module
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.partial_score import PartialScore
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize
from onnxsmith.pipeline.quantization.sensitivity import Layers, calibrated, sensitivity
from onnxsmith.runtime.profile import node_times
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

RNG = np.random.default_rng(12)
Array = np.ndarray[Any, Any]
Load = Callable[..., Artifact]
WEIGHTS = {
    name: RNG.standard_normal(shape).astype(np.float32)
    for name, shape in (("w", (8, 16)), ("v", (16, 16)), ("u", (16, 4)))
}


def network() -> str:
    """Return the network's text; names of nodes are set by :func:`named`."""
    return "g (float[N,8] x) => (float[N,4] y) { a = Gemm(x, w) r = Relu(a) b = Gemm(r, v) s = Relu(b) y = Gemm(s, u) }"


def named(artifact: Artifact) -> Artifact:
    """Call the layers so that a name taken for a pattern would not fit itself."""
    layers = [node for node in artifact.model.graph if node.op_type == "Gemm"]
    for node, name in zip(layers, ("first", "second[0]", "third*"), strict=True):
        node.name = name
    return artifact


@pytest.fixture
def job(load_text: Load, tmp_path: Path) -> Job:
    """A perceptron whose second layer reads one number that dwarfs all others."""
    weights = dict(WEIGHTS)
    weights["w"] = WEIGHTS["w"].copy()
    weights["w"][:, 3] *= 300
    weights["v"] = WEIGHTS["v"].copy()
    weights["v"][3] /= 3000
    artifact = named(load_text(network(), weights))
    np.savez(tmp_path / "train.npz", x=RNG.standard_normal((64, 8)).astype(np.float32))
    request = QuantizeRequest(mode="static", data=f"npz:{tmp_path / 'train.npz'}", threads=1)
    return Job.open(artifact, request)


@pytest.fixture
def layers(job: Job, tmp_path: Path) -> Layers:
    return calibrated(job, tmp_path)


def test_the_layer_that_hurts_comes_first(layers: Layers) -> None:
    costs = sensitivity(layers, threads=1)
    assert costs[0].layer == "second[0]"
    assert {cost.layer for cost in costs} == {"first", "second[0]", "third*"}
    noises = [cost.snr_db for cost in costs]
    assert all(noise is not None for noise in noises)
    first, second, *_ = [noise for noise in noises if noise is not None]
    assert first < 25 < 30 < second
    shares = [cost.share for cost in costs if cost.share is not None]
    assert len(shares) == 3
    assert 0 < sum(shares) <= 1


def test_a_layer_alone_is_what_the_pass_makes_of_it(layers: Layers) -> None:
    """From ranges measured once comes the same as from ranges measured for it."""
    alone = layers.alone("second[0]")
    pass_ = replace(layers.pass_, only=("second[[]0]",))
    again = Artifact(pass_.apply(layers.base.model.clone(), layers.context).model)
    x = RNG.standard_normal((5, 8)).astype(np.float32)
    found = []
    for artifact in (alone, again):
        with Session(artifact, optimize=False) as session:
            found.append(session.run({"x": x})["y"])
    np.testing.assert_array_equal(*found)
    assert [node.op_type for node in alone.model.graph].count("QuantizeLinear") == 1


def test_without_a_layer_the_others_are_quantized(layers: Layers) -> None:
    def rounded(artifact: Artifact) -> set[str]:
        return {
            node.name or ""
            for node in artifact.model.graph
            if node.op_type == "Gemm"
            and (maker := node.inputs[1] and node.inputs[1].producer())
            and maker.op_type == "DequantizeLinear"
        }

    assert rounded(layers.without([])) == {"first", "second[0]", "third*"}
    assert rounded(layers.without(["second[0]", "third*"])) == {"first"}


def test_nothing_is_calibrated_anew(job: Job, tmp_path: Path) -> None:
    reads = 0

    def counted() -> Iterator[dict[str, Array]]:
        nonlocal reads
        for feeds in (job.samples or (lambda: iter(())))():
            reads += 1
            yield feeds

    layers = calibrated(job, tmp_path)
    layers = replace(layers, context=replace(layers.context, samples=counted))
    sensitivity(layers, samples=2, threads=1)
    assert reads == 2


def test_the_metric_is_lost_by_the_layer_that_hurts(layers: Layers) -> None:
    x = RNG.standard_normal((64, 8)).astype(np.float32)
    with Session(layers.base) as session:
        exact = session.run({"x": x})["y"]

    def score(artifact: Artifact) -> float:
        with Session(artifact) as session:
            return -float(np.abs(session.run({"x": x})["y"] - exact).mean())

    costs = {cost.layer: cost for cost in sensitivity(layers, threads=1, score=score)}
    drop = costs["second[0]"].drop
    assert drop is not None
    assert drop == pytest.approx(-score(layers.alone("second[0]")), rel=1e-6)
    assert drop == max(cost.drop or 0.0 for cost in costs.values())


def test_only_the_most_sensitive_layers_are_scored(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[Artifact] = []

    def score(artifact: Artifact) -> float:
        scored.append(artifact)
        return 5.0 - len(scored)

    monkeypatch.setattr(module, "MOST_SCORED", 2)
    first, second, third = sensitivity(layers, threads=1, score=score)
    assert len(scored) == 3  # the float model once, and two layers
    assert (first.drop, second.drop, third.drop) == (1.0, 2.0, None)
    assert third.snr_db is not None


def test_the_score_of_errors_is_turned_around(job: Job, tmp_path: Path) -> None:
    x = RNG.standard_normal((300, 8)).astype(np.float32)
    with Session(job.artifact) as session:
        np.savez(tmp_path / "held.npz", x=x, label=session.run({"x": x})["y"])
    request = replace(job.request, eval_data=f"npz:{tmp_path / 'held.npz'}", metric="rmse")
    score = PartialScore.open(replace(job, request=request))
    assert score is not None
    assert score(job.artifact) == pytest.approx(0, abs=1e-4)
    assert score.samples == 256
    result = quantize(job.artifact, replace(request, sensitivity=True))
    worst = result.layers[0]
    assert worst.layer == "second[0]"
    assert worst.drop is not None
    assert worst.drop > 0.1
    assert result.layers_note.startswith("The drop is what the rmse loses on the first 256")
    some = (worst, replace(worst, drop=None))
    assert score.note(some).endswith("of the 1 layers with the most noise.")
    assert score.note(some[1:]) == ""
    assert PartialScore.open(job) is None


def test_what_the_time_does_not_suffice_for_is_named(layers: Layers) -> None:
    costs = sensitivity(layers, threads=1, seconds=-1)
    assert len(costs) == 3
    assert {cost.note for cost in costs} == {"no time was left to measure it"}
    assert all(cost.snr_db is None and cost.time_ms is not None for cost in costs)


def test_layers_that_take_the_longest_are_looked_at_first(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {node: (3.0, 1.0, 9.0)[index] for index, node in enumerate(layers.nodes)}
    monkeypatch.setattr(module, "node_times", lambda *_: (times, 13.0))
    said: list[str] = []
    sensitivity(layers, threads=1, say=said.append)
    wanted = sorted(layers.nodes, key=lambda node: -times[node])
    assert said == [f"layer {i} of 3: {node.name}" for i, node in enumerate(wanted, start=1)]


def test_a_layer_that_stays_in_float_has_no_row(job: Job, tmp_path: Path) -> None:
    request = replace(job.request, exclude=("second*",))
    layers = calibrated(replace(job, request=request), tmp_path)
    assert {cost.layer for cost in sensitivity(layers, threads=1)} == {"first", "third*"}


def test_static_shows_its_layers_when_asked(job: Job) -> None:
    said: list[str] = []
    request = replace(job.request, sensitivity=True, progress=said.append)
    result = quantize(job.artifact, request)
    assert result.layers[0].layer == "second[0]"
    assert result.to_json()["layers"][0]["snr_db"] == result.layers[0].snr_db
    assert "layer 3 of 3" in said[-1]
    with pytest.raises(UsageError, match="mode dynamic has no layers"):
        quantize(job.artifact, replace(request, mode="dynamic"))


def test_poor_data_is_refused(job: Job, tmp_path: Path) -> None:
    request = replace(job.request, data="random")
    with pytest.raises(SmithError, match="random data"):
        calibrated(Job.open(job.artifact, request), tmp_path)


def test_times_of_fused_kernels_are_those_of_their_layers(load_text: Load) -> None:
    text = "g (float[1,16,32,32] x) => (float[1,16,32,32] y) { a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a) b = Conv<pads=[1,1,1,1]>(r, w) s = Add(b, x) y = Relu(s) }"
    artifact = load_text(text, {"w": RNG.standard_normal((16, 16, 3, 3)).astype(np.float32)})
    feeds = {"x": RNG.standard_normal((1, 16, 32, 32)).astype(np.float32)}
    times, total = node_times(artifact, TARGETS["cpu"], feeds, 1)
    convolutions = [node for node in artifact.model.graph if node.op_type == "Conv"]
    spent = [times[node] for node in convolutions]
    assert all(time > 0 for time in spent)
    assert 0.5 * total < sum(spent) <= total
    # Equal work on both sides.
    assert 0.2 < spent[0] / spent[1] < 5


def test_matrix_products_are_timed_by_name(load_text: Load) -> None:
    artifact = named(load_text(network(), WEIGHTS))
    x = np.ones((64, 8), np.float32)
    times, total = node_times(artifact, TARGETS["cpu"], {"x": x}, 1)
    names = {node.name for node in times}
    assert {"first", "second[0]", "third*"} <= names
    assert sum(times.values()) <= total * 1.001


def test_quantize_static_makes_the_same_in_one_step(layers: Layers) -> None:
    whole = Artifact(layers.pass_.apply(layers.base.model.clone(), layers.context).model)
    assert isinstance(layers.pass_, QuantizeStatic)
    x = RNG.standard_normal((5, 8)).astype(np.float32)
    found = []
    for artifact in (whole, layers.without([])):
        with Session(artifact, optimize=False) as session:
            found.append(session.run({"x": x})["y"])
    np.testing.assert_array_equal(*found)


def test_passes_for_the_float_model_come_right_before_rounding(job: Job, tmp_path: Path) -> None:
    request = replace(job.request, prepare="equalize-layers,round-weights")
    result = quantize(job.artifact, request)
    names = [run.pass_.name for run in result.pipeline.runs]
    at = names.index("quantize-static")
    assert names[at - 2 : at] == ["equalize-layers", "round-weights"]
    assert "fuse-gemm" in names[: at - 2]
    # The number that dwarfs the others is made small, and the outputs are the better for it.
    plain = quantize(job.artifact, job.request)
    snr = [found.pipeline.differences[0].snr_db for found in (plain, result)]
    assert snr[1] > snr[0] + 6
    # The layers are looked at as they are rounded.
    costs = sensitivity(calibrated(replace(job, request=request), tmp_path), threads=1)
    assert costs[0].layer != "second[0]"
    with pytest.raises(UsageError, match="equalise"):
        quantize(job.artifact, replace(request, prepare="equalise-layers"))
