from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline import gate
from onnxsmith.target import TARGETS


@pytest.mark.parametrize(
    ("verdicts", "rounds", "slower"),
    [
        (["faster"], [5], False),
        (["no change"], [5], False),
        (["slower", "slower"], [5, 10], True),
        (["slower", "no change"], [5, 10], False),
    ],
)
def test_a_slowdown_is_measured_again_before_it_counts(
    verdicts: list[str],
    rounds: list[int],
    slower: bool,
    load_text: Callable[..., Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def bench(paths: Any, **options: Any) -> Any:
        assert all(path.is_file() for path in paths)
        asked.append(options["rounds"])
        verdict = verdicts[len(asked) - 1]
        comparison = SimpleNamespace(
            verdict=verdict, ratio=0.9, low=0.8, high=0.95, to_json=lambda: {"verdict": verdict}
        )
        return SimpleNamespace(comparisons=(comparison,))

    monkeypatch.setattr(gate, "bench", bench)
    artifact = load_text("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    change = gate.measure_change(artifact, artifact, TARGETS["cpu"])
    assert asked == rounds
    assert change.slower is slower
    assert verdicts[-1] in change.words
    assert change.figures == {"verdict": verdicts[-1]}
