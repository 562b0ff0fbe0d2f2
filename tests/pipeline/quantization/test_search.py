"""Mode auto: what keeps enough and is measured fastest is returned, and nothing slower than the input."""  # noqa: E501

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.gate import Change
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult
from onnxsmith.pipeline.quantization.run import quantize
from onnxsmith.pipeline.quantization.search import auto
from onnxsmith.pipeline.quantization.search.trial import Trial, points
from onnxsmith.runtime.bench import BenchResult
from onnxsmith.runtime.measurement import Measurement, compare
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(21)
Load = Callable[..., Artifact]
TEXT = "g (float[N,8] x) => (float[N,4] y) { a = Gemm(x, w) r = Relu(a) b = Gemm(r, v) s = Relu(b) y = Gemm(s, u) }"  # noqa: E501
WEIGHTS = {
    "w": RNG.standard_normal((8, 64)).astype(np.float32),
    "v": RNG.standard_normal((64, 64)).astype(np.float32),
    "u": RNG.standard_normal((64, 4)).astype(np.float32),
}
QUANTIZED = (
    "static",
    "dynamic",
    "static, inputs of products only",
    "weight-only, 8 bits",
    "weight-only, 8 bits, products in int8",
    "weight-only, 4 bits",
    "weight-only, 4 bits, products in int8",
    "static, int4 weights",
)
# One hidden number dwarfs the others and says nothing: eight bits for all of them lose the rest.
SPOILT = {**WEIGHTS, "w": WEIGHTS["w"].copy(), "v": WEIGHTS["v"].copy()}
SPOILT["w"][:, 3] *= 1e4
SPOILT["v"][3] = 0


@pytest.fixture
def request_for(load_text: Load, tmp_path: Path) -> Callable[..., tuple[Artifact, QuantizeRequest]]:
    """A network with data that it classifies without a mistake."""

    def make(weights: dict[str, Any] = WEIGHTS) -> tuple[Artifact, QuantizeRequest]:
        artifact = load_text(TEXT, weights)
        sources = []
        for name, count in (("train", 64), ("test", 400)):
            x = RNG.standard_normal((count, 8)).astype(np.float32)
            with Session(artifact) as session:
                labels = session.run({"x": x})["y"].argmax(axis=1)
            np.savez(tmp_path / f"{name}.npz", x=x, label=labels)
            sources.append(f"npz:{tmp_path / f'{name}.npz'}")
        request = QuantizeRequest(
            mode="auto", data=sources[0], eval_data=sources[1], max_drop=0.05, threads=1
        )
        return artifact, request

    return make


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Milliseconds by a candidate's name, 1 for the input and others; fill it before a search."""
    table: dict[str, float] = {}

    def measured(name: str) -> Measurement:
        noise = np.tile([0.99, 1.0, 1.01], 3)
        return Measurement(
            name, tuple(table.get(name, 1.0) * noise), tuple(np.repeat(range(3), 3).tolist())
        )

    def bench(paths: Sequence[Path], *, names: Sequence[str], **_: Any) -> Any:
        assert all(path.exists() for path in paths)
        found = tuple(measured(name) for name in names)
        comparisons = tuple(compare(found[0], m) for m in found[1:])
        return BenchResult(found, comparisons, None, {})  # type: ignore[arg-type]  # not read

    def change(before: Artifact, after: Artifact, *_: Any) -> Change:
        slower = table.get("again", 0) > 0
        table["again"] = table.get("again", 0) - 1
        figures = {"ratio": 2.0, "low": 1.5, "high": 2.5, "verdict": "faster", "confidence": 0.95}
        return Change(slower, "as measured again", figures, not slower)

    monkeypatch.setattr(auto, "bench", bench)
    monkeypatch.setattr(auto, "measure_change", change)
    return table


def chosen(result: QuantizeResult) -> str:
    assert result.search is not None
    (name,) = [trial.name for trial in result.search.trials if trial.chosen]
    return name


def verdicts(result: QuantizeResult) -> dict[str, str]:
    assert result.search is not None
    return {trial.name: trial.verdict for trial in result.search.trials}


def operators(artifact: Artifact) -> set[str]:
    return {node.op_type for node in artifact.model.graph}


@pytest.mark.parametrize(
    ("fastest", "mark"), [("static", "QuantizeLinear"), ("dynamic", "DynamicQuantizeLinear")]
)
def test_the_fastest_that_keeps_enough_is_returned(
    request_for: Any, speeds: dict[str, float], fastest: str, mark: str
) -> None:
    artifact, request = request_for()
    speeds.update({"static": 0.5, "dynamic": 0.5, fastest: 0.4})
    result = quantize(artifact, request)
    assert chosen(result) == fastest
    assert mark in operators(result.artifact)
    assert result.before is not None
    assert result.before.metrics["accuracy"] == 1
    assert result.after is not None
    assert result.after.metrics["accuracy"] >= 0.95
    assert result.artifact.history[-1].name == "auto"
    assert result.artifact.history[-1].result["chosen"] == fastest
    assert result.speed is not None
    assert result.layers  # they are looked at though nothing had to be left out


def test_where_static_loses_too_much_the_layer_to_blame_stays_in_float(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for(SPOILT)
    speeds.update({"static, 1 of 3 layers in float": 0.5})
    result = quantize(artifact, request)
    assert verdicts(result)["static"] == "loses too much"
    assert chosen(result) == "static, 1 of 3 layers in float"
    left = [entry for entry in result.left_float if "excluded" in entry["reason"]]
    assert [entry["node"] for entry in left] == [result.layers[0].layer] == ["b"]
    assert result.after is not None
    assert result.after.metrics["accuracy"] >= 0.95


def test_gentler_ranges_are_tried_first(request_for: Any, speeds: dict[str, float]) -> None:
    artifact, request = request_for(SPOILT)
    result = quantize(artifact, request)
    names = list(verdicts(result))
    tried = ["static, ranges by percentile", "static, ranges by minmax", "static, layers equalized"]
    start = names.index(tried[0])
    assert names[start : start + 3] == tried[: len(names[start : start + 3])]
    # One that keeps enough ends the list: here the spoilt number is scaled away.
    assert "static, 1 of 3 layers in float" in names


def test_16_bits_rescue_what_8_lose_and_4_bits_come_last(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for(SPOILT)
    speeds.update({"static, 1 of 3 layers in 16 bits": 0.5})
    result = quantize(artifact, request)
    assert chosen(result) == "static, 1 of 3 layers in 16 bits"
    (quantizer,) = [r.pass_ for r in result.pipeline.runs if r.pass_.name == "quantize-static"]
    assert quantizer.wide == ("b",)  # type: ignore[attr-defined]  # the layer to blame
    assert result.after is not None
    assert result.after.metrics["accuracy"] >= 0.95
    names = list(verdicts(result))
    # What may be fast comes before what is only small.
    late = ["static, 16-bit activations", "weight-only, 8 bits", "static, int4 weights"]
    assert sorted(late, key=names.index) == late
    assert names[-2:] == ["static, int4 weights", "static, int4 weights, rounded to fit"]
    assert result.search is not None
    scores = {trial.name: trial.score for trial in result.search.trials}
    assert scores["static, 16-bit activations"] >= scores["static"]


def test_layers_are_ranked_with_their_loss_of_the_metric(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for(SPOILT)
    result = quantize(artifact, replace(request, budget=(2, 900)))
    drops = {layer.layer: layer.drop for layer in result.layers}
    worst = result.layers[0]
    assert worst.layer == "b"
    assert worst.drop is not None
    assert worst.drop > 0.05
    assert worst.drop == max(drop for drop in drops.values() if drop is not None)
    words = "The drop is what the accuracy loses on the first 256 held-out samples."
    assert result.layers_note == words
    assert result.to_json()["layers_note"] == words


def test_the_smallest_that_is_not_slower_where_size_is_preferred(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for()
    speeds.update({"static": 0.5, "dynamic": 0.9})
    speeds.update({name: 1.5 for name in QUANTIZED if "weight-only, 4" in name})
    asked = replace(request, prefer="size", max_drop=0.2)
    result = quantize(artifact, asked)
    assert chosen(result) == "static, int4 weights"
    assert list(verdicts(result))[-1] == "static, int4 weights"  # it keeps enough as it is
    # Where it would be slower than the input, the next one, though another one is faster.
    speeds["static, int4 weights"] = 1.5
    again = quantize(artifact, asked)
    assert verdicts(again)["static, int4 weights"] == "slower"
    assert again.search is not None
    others = [t for t in again.search.trials if t.verdict != "slower" and t.size_bytes]
    smallest = min(others, key=lambda t: t.size_bytes or 0)
    assert chosen(again) == smallest.name != "static"


def test_nothing_slower_is_returned(request_for: Any, speeds: dict[str, float]) -> None:
    artifact, request = request_for()
    speeds.update(dict.fromkeys(QUANTIZED, 1.5))
    result = quantize(artifact, request)
    assert chosen(result) == "input"
    assert operators(result.artifact) == {"Gemm", "Relu"}
    assert result.artifact.size_bytes == artifact.size_bytes
    assert any("none is faster (static: slower" in warning for warning in result.warnings)
    assert result.speed is None


def test_what_is_slower_when_measured_again_gives_way(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for()
    speeds.update({"static": 0.4, "dynamic": 0.6, "again": 1})
    result = quantize(artifact, request)
    assert verdicts(result)["static"] == "slower when measured again"
    assert chosen(result) == "dynamic"


def test_what_is_as_fast_and_much_smaller_is_returned(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for()
    speeds.update({name: 1.5 for name in QUANTIZED if name != "static"})
    result = quantize(artifact, request)
    assert chosen(result) == "static"
    assert result.artifact.size_bytes < artifact.size_bytes / 2


def test_the_faster_one_loses_to_the_budget(request_for: Any, speeds: dict[str, float]) -> None:
    artifact, request = request_for(SPOILT)
    speeds.update({"static": 0.1, "static, inputs of products only": 0.1})
    speeds.update({"float32, optimized": 0.9})
    result = quantize(artifact, replace(request, budget=(4, 900)))
    assert chosen(result) == "float32, optimized"
    assert any("no quantized candidate is better" in warning for warning in result.warnings)
    found = verdicts(result)
    assert found["static"] == "loses too much"
    assert "not tried: the budget is spent" in found.values()
    made = [t for t in result.search.trials if t.size_bytes] if result.search else []
    assert len(made) == 1 + 4


def test_a_hundredth_may_be_lost_where_nothing_is_said(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for()
    result = quantize(artifact, replace(request, max_drop=None, budget=(1, 900)))
    assert result.search is not None
    assert result.search.limit == pytest.approx(0.99)


def test_seconds_are_a_budget_too(request_for: Any, speeds: dict[str, float]) -> None:
    artifact, request = request_for()
    result = quantize(artifact, replace(request, budget=(10, 0.0)))
    found = verdicts(result)
    assert found["static"] == "not tried: the budget is spent"
    assert chosen(result) == "input"


def test_without_held_out_data_the_outputs_themselves_are_compared(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for()
    speeds.update({"static": 0.5, "dynamic": 0.5})
    result = quantize(artifact, replace(request, eval_data=None, max_drop=None))
    assert result.search is not None
    assert (result.search.score, result.search.limit) == ("SNR (dB)", 20)
    scores = {trial.name: trial.score for trial in result.search.trials}
    assert scores["input"] == np.inf
    score = scores["static"]
    assert score is not None
    assert 20 < score < 60


def test_without_any_data_only_what_needs_none_is_tried(
    request_for: Any, speeds: dict[str, float]
) -> None:
    artifact, request = request_for()
    speeds["dynamic"] = 0.5
    result = quantize(artifact, replace(request, data=None, eval_data=None, max_drop=None))
    assert chosen(result) == "dynamic"
    assert not any("static" in name for name in verdicts(result))


def test_a_mode_that_fails_says_why(
    load_text: Load, tmp_path: Path, speeds: dict[str, float]
) -> None:
    text = "g (float[N,3,8,8] x) => (float[N,4,6,6] y) { y = Conv(x, w) }"
    artifact = load_text(text, {"w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)})
    np.savez(tmp_path / "x.npz", x=RNG.standard_normal((40, 3, 8, 8)).astype(np.float32))
    data = f"npz:{tmp_path / 'x.npz'}"
    result = quantize(artifact, QuantizeRequest(mode="auto", data=data, threads=1))
    assert verdicts(result)["dynamic"].startswith("failed: nothing in the model can be quantized")
    # What cannot be made is no part of the budget.
    few = QuantizeRequest(mode="auto", data=data, threads=1, budget=(4, 900))
    found = verdicts(quantize(artifact, few))
    assert found["static, int4 weights"] != "not tried: the budget is spent"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "rmse"}, "labels"),
        ({"metric": "auracy"}, "accuracy"),
        ({"eval_data": "npz:missing.npz"}, "missing"),
        ({"same": True}, "both"),
    ],
)
def test_what_cannot_be_scored_has_a_clear_word(
    request_for: Any, change: dict[str, Any], words: str
) -> None:
    artifact, request = request_for()
    if change.pop("same", False):
        change["eval_data"] = request.data
    with pytest.raises(SmithError) as caught:
        quantize(artifact, replace(request, **change))
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_less_is_better_for_errors(
    load_text: Load, tmp_path: Path, speeds: dict[str, float]
) -> None:
    artifact = load_text(TEXT, SPOILT)
    for name, count in (("train", 64), ("test", 100)):
        x = RNG.standard_normal((count, 8)).astype(np.float32)
        with Session(artifact) as session:
            np.savez(tmp_path / f"{name}.npz", x=x, label=session.run({"x": x})["y"])
    request = QuantizeRequest(
        mode="auto",
        data=f"npz:{tmp_path / 'train.npz'}",
        eval_data=f"npz:{tmp_path / 'test.npz'}",
        metric="rmse",
        max_drop=1.0,
        budget=(3, 900),
        threads=1,
    )
    speeds.update({"static": 0.1, "dynamic": 0.2, "float32, optimized": 0.9})
    result = quantize(artifact, request)
    assert result.search is not None
    assert result.search.limit == pytest.approx(1.0, abs=0.01)
    assert verdicts(result)["static"] == "loses too much"
    assert chosen(result) == "float32, optimized"


def test_the_front_is_what_none_beats() -> None:
    def trial(name: str, latency: float | None, score: float | None) -> Trial:
        return Trial(name, latency_ms=latency, score=score)

    trials = [
        trial("slow and good", 3, 0.9),
        trial("fast and bad", 1, 0.5),
        trial("beaten in both", 3.5, 0.6),
        trial("beaten in speed alone", 4, 0.9),
        trial("as fast as another and worse", 2, 0.65),
        trial("between", 2, 0.7),
        trial("not measured", None, 0.95),
        trial("not a number", 0.1, float("nan")),
    ]
    found = points(trials, lambda first, second: first > second)
    on = [point.name for point in found if point.on_front]
    assert on == ["slow and good", "fast and bad", "between"]
    assert not any(point.on_size_front for point in found)  # none has a size
