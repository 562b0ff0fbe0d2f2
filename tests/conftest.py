"""Fixtures that tests of several folders share."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxsmith.artifact import Artifact

ROOT = Path(__file__).resolve().parents[1]


class Ended(NamedTuple):
    """How a run of the program ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the folders that a test's sources put in front of ``sys.path``."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run ``onnxsmith ARGS`` in this process."""

    def run(*arguments: object) -> Ended:
        from onnxsmith.cli.main import run as run_program

        capfd.readouterr()
        code = run_program([str(argument) for argument in arguments])
        caught = capfd.readouterr()
        return Ended(code, caught.out, caught.err)

    return run


@pytest.fixture(scope="session")
def material() -> Path:
    """The folder that holds ``real/`` and ``reference/``."""
    folder = Path(os.environ.get("ONNXSMITH_MATERIAL", ROOT / ".." / "shared")).resolve()
    if not (folder / "real").is_dir():
        pytest.fail(f"no real material at {folder}: set ONNXSMITH_MATERIAL, or run 'make test'")
    return folder


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python code in a process of its own."""

    def run(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, **options)

    return run


@pytest.fixture(scope="session")
def parse_model() -> Callable[..., onnx.ModelProto]:
    """Build a model from ONNX text: ``parse_model('g (float[2] x) => (float[2] y) {...}')``.

    Named weights are embedded as raw bytes.
    """

    def parse(
        text: str,
        weights: dict[str, np.ndarray[Any, Any]] | None = None,
        *,
        opset: int = 18,
        ir_version: int = 10,
        header: str = "",
    ) -> onnx.ModelProto:
        head = header or f'<ir_version: {ir_version}, opset_import: ["": {opset}]>'
        model = onnx.parser.parse_model(f"{head} {text}")
        for name, array in (weights or {}).items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return model

    return parse


@pytest.fixture
def load_text(
    tmp_path: Path, parse_model: Callable[..., onnx.ModelProto]
) -> Callable[..., Artifact]:
    """Build a model from ONNX text as :func:`parse_model`, by way of a file."""

    def load(
        text: str,
        weights: dict[str, np.ndarray[Any, Any]] | None = None,
        *,
        opset: int = 18,
        ir_version: int = 10,
        header: str = "",
    ) -> Artifact:
        count = len(list(tmp_path.glob("text-*.onnx")))
        path = tmp_path / f"text-{count}.onnx"
        model = parse_model(text, weights, opset=opset, ir_version=ir_version, header=header)
        path.write_bytes(model.SerializeToString())
        return Artifact.load(path)

    return load


@pytest.fixture(scope="session")
def benchmark_sources() -> Iterator[Callable[[str], ModuleType]]:
    """Import what benchmarks are made of, by name; their folder is not on the path."""
    place = ROOT / "benchmarks/sources"
    spec = importlib.util.spec_from_file_location(
        "sources", place / "__init__.py", submodule_search_locations=[str(place)]
    )
    assert spec is not None
    sys.modules["sources"] = importlib.util.module_from_spec(spec)
    yield lambda name: importlib.import_module(f"sources.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "sources"]:
        del sys.modules[name]
