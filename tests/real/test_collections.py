"""No graph of the collections comes out wrong, invalid or refused, whatever the preset.

A fixed part, spread over each collection, is judged here; ``make test-collections`` judges all.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.real.judging import graphs_in, judge, spread, unpack, write_node_tests

# Collection to graphs, presets and kinds of check: what fits into a minute together.
PARTS = {
    "onnxruntime_tests": (30, ("cpu", "cuda"), ("off",)),
    "onnx_backend_other": (10, ("edge", "tensorrt"), ("end",)),
    "onnx": (20, ("safe", "tensorrt"), ("end",)),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_the_collection(material: Path, tmp_path: Path, name: str) -> None:
    count, presets, verify = PARTS[name]
    if name == "onnx":
        folder = write_node_tests(tmp_path)
    else:
        folder = unpack(material / "real" / "graphs" / f"{name}.tar.gz", tmp_path)
    paths = spread(graphs_in(folder), count)
    verdicts = judge(paths, presets, verify)
    assert len(verdicts) > count // 2  # the runtime runs most
    faults = {
        f"{path.relative_to(folder)} [{configuration}]": words
        for path, verdict in verdicts.items()
        for configuration, words in verdict.items()
        if words != "same"
    }
    assert faults == {}


def test_the_judge_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that never complains would be worth nothing."""
    import onnx
    from tests.real import judging

    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> g (float[2] x) => (float[2] y) { y = Exp(x) }'
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())

    def judged(kind: str | None, code: int = 0) -> str:
        def optimize(source: Path, target: Path, preset: str, mode: str) -> tuple[int, str]:
            if kind is not None:
                model.graph.node[0].op_type = kind
                target.write_bytes(model.SerializeToString())
            return code, "words"

        monkeypatch.setattr(judging, "_optimize", optimize)
        told: list[tuple[str, ...]] = []
        judging._judge_one(tmp_path / "m.onnx", ["cpu"], ["end"], lambda *words: told.append(words))
        return told[-1][-1]

    assert judged("Exp") == "same"
    assert judged("Neg").startswith("wrong: y")
    assert judged("Nope").startswith("invalid")
    assert judged(None, 1) == "refused: exit 1: words"
    assert judged("Exp", 3) == "dropped: words"
