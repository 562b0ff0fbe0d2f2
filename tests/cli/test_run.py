import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from onnxsmith.cli.main import run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>'
        "g (float[N,3] x) => (float[N,2] y) { y = MatMul(x, w) }"
    )
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "model.onnx")
    path = tmp_path / "small.yaml"
    path.write_text(
        "name: small\nsource: {path: model.onnx}\noptimize: {allow_slower: true}\n"
        "bench: {rounds: 3, runs: 2}\n"
    )
    return path


def test_paths_are_found_from_the_recipes_folder_and_runs_are_numbered(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number in (1, 2):
        monkeypatch.chdir(elsewhere)
        assert run(["run", str(recipe)]) == 0
        assert (elsewhere / "runs" / f"small-{number}" / "report.html").is_file()


def test_an_existing_folder_needs_resume(
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = str(tmp_path / "out")
    assert run(["run", str(recipe), "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "small"
    assert run(["run", str(recipe), "--out", out]) == 1
    assert "--resume" in capsys.readouterr().err
    assert run(["run", str(recipe), "--out", out, "--resume"]) == 0
    assert "cached" in capsys.readouterr().out
    assert run(["run", str(recipe), "--resume"]) == 2


def test_the_schema_is_json_and_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"source", "optimize", "quantize", "evaluate", "bench"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_what_a_failing_source_printed_is_shown(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(
        "import torch\n"
        "def build():\n"
        "    print('these were its last words')\n"
        "    raise SystemExit(3)\n"
    )
    recipe = {"name": "r", "source": {"path": "broken:build", "inputs": ["x:float32[2,2]"]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    ended = run_cli("run", "recipe.yaml", "--out", "out")
    assert ended.code == 1
    assert "  | these were its last words" in ended.err
    assert "error: stage convert: " in ended.err


def test_pickles_need_trust_from_the_command_line(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.linear_model import Ridge

    model = Ridge().fit(np.eye(3), np.arange(3.0))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    recipe = {"name": "r", "source": {"path": "model.pkl"}, "optimize": None, "bench": None}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    refused = run_cli("run", "recipe.yaml", "--out", "out")
    assert refused.code == 1
    assert "--trust" in refused.err
    assert run_cli("run", "recipe.yaml", "--out", "out", "--trust", "--resume").code == 0
    recipe["source"] = {"path": "model.pkl", "trust": True}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert run_cli("run", "recipe.yaml", "--out", "out2").code == 1
