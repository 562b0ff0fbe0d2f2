import json
import subprocess
import sys
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
    assert accuracy["converted"] < 0.3
    assert accuracy["trained"] > 0.97
    assert accuracy["optimized"] == accuracy["trained"]
    assert abs(accuracy["quantized"] - accuracy["trained"]) <= 0.005
    (training,) = report["trainings"]
    assert training["samples"] == 1352
    assert training["epochs"][-1]["metrics"]["accuracy"] == accuracy["trained"]
    sizes = {size["model"]: size["size_bytes"] for size in report["sizes"]}
    assert sizes["trained"] >= 3 * sizes["quantized"]
    assert all(row["verdict"] == "match" for row in report["parity"][0]["rows"])
    page = (out / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page

    assert run(["quickstart", "--out", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {stage["status"] for stage in again["stages"]} == {"cached"}


def test_no_framework_takes_part() -> None:
    """Of scikit-learn nothing but the digits is loaded."""
    code = """
import sys
from onnxsmith.pipeline.quickstart import quickstart_recipe
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.training import train
artifact = convert(quickstart_recipe().source.path).artifact
print(*sorted({"torch", "tensorflow", "sklearn", "skl2onnx"} & set(sys.modules)), "loaded")
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout == "loaded\n", done.stdout + done.stderr
