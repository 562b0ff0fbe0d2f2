import json
from pathlib import Path

import pytest

from onnxsmith.cli.main import run


def test_the_whole_story_and_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "story"
    assert run(["quickstart", "--out", str(out)]) == 0, capsys.readouterr().err
    assert "report.html" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    accuracy = {score["model"]: score["metrics"]["accuracy"] for score in report["scores"]}
    assert accuracy["converted"] > 0.95
    assert accuracy["optimized"] == accuracy["converted"]
    assert abs(accuracy["quantized"] - accuracy["converted"]) <= 0.005
    sizes = {size["model"]: size["size_bytes"] for size in report["sizes"]}
    assert sizes["converted"] >= 3 * sizes["quantized"]
    assert all(row["verdict"] == "match" for part in report["parity"][:2] for row in part["rows"])
    page = (out / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page

    assert run(["quickstart", "--out", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {stage["status"] for stage in again["stages"]} == {"cached"}
