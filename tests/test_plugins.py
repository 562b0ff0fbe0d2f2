"""The tables: every built-in row leads to what it names, and installed packages add rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.base import Pass
from onnxsmith.passes.table import PASSES, PRESETS
from onnxsmith.pipeline.data.table import SOURCES
from onnxsmith.pipeline.evaluation.table import METRICS
from onnxsmith.pipeline.frontends.table import FRONTENDS
from onnxsmith.plugins import Table

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "smith-plugin"
version = "1"

[project.entry-points."onnxsmith.passes"]
{name} = "smith_plugin:{attribute}"

[tool.setuptools]
py-modules = ["smith_plugin"]
"""
MODULE = '''
from dataclasses import dataclass
from typing import ClassVar

from onnxsmith.passes.base import Pass, PassResult


@dataclass(frozen=True)
class SignModel(Pass):
    """Write a name into the model."""

    name: ClassVar[str] = "sign-model"

    who: str = "nobody"

    def apply(self, model, context):
        """Write it."""
        model.producer_name = self.who
        return PassResult(model, True, {})
'''
MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
agraph (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }
"""


def install(folder: Path, name: str, attribute: str) -> Path:
    """Install the tiny package as pip does; return the folder to put on the path."""
    source, site = folder / "source", folder / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(PROJECT.format(name=name, attribute=attribute))
    (source / "smith_plugin.py").write_text(MODULE)
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run(
        [sys.executable, "-P", "-m", "pip", "install", *options, str(source)],
        check=True,
        capture_output=True,
    )
    return site


def smith(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "onnxsmith", *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )


def test_an_installed_package_adds_a_pass(tmp_path: Path) -> None:
    site = install(tmp_path, "sign-model", "SignModel")
    listed = json.loads(smith(site, "passes", "list", "--json").stdout)
    assert listed["passes"]["sign-model"]["summary"] == "Write a name into the model."

    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "in.onnx")
    spec = ["--passes", "sign-model:who=me", "-o", str(tmp_path / "out.onnx")]
    done = smith(site, "optimize", str(tmp_path / "in.onnx"), *spec)
    assert done.returncode == 0, done.stderr
    assert onnx.load(tmp_path / "out.onnx").producer_name == "me"


def test_a_package_cannot_take_a_built_in_name(tmp_path: Path) -> None:
    done = smith(install(tmp_path, "fold-constants", "SignModel"), "passes", "list")
    assert done.returncode == 1
    assert "reuses the pass name 'fold-constants'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_package_is_named_and_does_no_other_harm(tmp_path: Path) -> None:
    site = install(tmp_path, "sign-model", "Missing")
    done = smith(site, "passes", "show", "sign-model")
    assert done.returncode == 1
    assert "the plugin pass 'sign-model' cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr
    assert smith(site, "passes", "show", "fold-constants").returncode == 0


@pytest.mark.parametrize("name", list(PASSES.rows))
def test_pass_is_called_as_its_row_says(name: str) -> None:
    found = PASSES[name]
    assert issubclass(found, Pass)
    assert found.name == name
    assert found.summary().endswith(".")


@pytest.mark.parametrize("name", list(FRONTENDS.rows))
def test_frontend_is_called_as_its_row_says(name: str) -> None:
    assert FRONTENDS[name].name == name


@pytest.mark.parametrize("table", [METRICS, SOURCES], ids=["metrics", "data"])
def test_every_row_can_be_imported(table: Table) -> None:
    assert all(isinstance(table[name], type) for name in table.rows)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_are_made_of_passes_there_are(preset: str) -> None:
    assert {word.partition(":")[0] for word in PRESETS[preset].split(",")} <= set(PASSES)


def test_an_unknown_name_is_a_usage_error_with_the_closest_one() -> None:
    with pytest.raises(UsageError) as caught:
        PASSES.find("fold-constant")
    assert "fold-constants" in caught.value.hint
    assert isinstance(caught.value, SmithError)
