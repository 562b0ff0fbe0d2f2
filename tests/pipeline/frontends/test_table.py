"""The right frontend is chosen, without running anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.sources import imported_packages
from onnxsmith.pipeline.frontends.table import (
    FRONTENDS,
    choose_for_object,
    choose_frontend,
    find_frontend,
    missing_packages,
)


def test_every_row_imports_and_is_called_so() -> None:
    for name in FRONTENDS:
        frontend = find_frontend(name)
        assert frontend.name == name
        assert frontend.accepts


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/b.onnx", "onnx"),
        ("MODEL.ONNX", "onnx"),
        ("net.pt2", "torch"),
        ("clf.joblib", "sklearn"),
        ("net:Net", "torch"),
        ("estimators:mlp", "sklearn"),
        ("models.tiny:build", "sklearn"),
    ],
)
def test_sources_find_their_frontend(project: Path, source: str, name: str) -> None:
    assert choose_frontend(source).name == name


def test_looking_at_a_source_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "deep"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    (package / "net.py").write_text("def f():\n    from torch.nn import Linear\nraise SystemExit")
    assert imported_packages("deep.net:f") == {"torch"}
    (package / "net.py").write_text("this is no python")
    assert imported_packages("deep.net:f") == frozenset()


def test_a_module_that_is_not_there_is_named_before_a_frontend_is_asked_for() -> None:
    with pytest.raises(SmithError, match=r"there is no module 'no_such_thing\.net'"):
        choose_frontend("no_such_thing.net:build")


def test_equal_matches_ask(project: Path) -> None:
    with pytest.raises(UsageError, match="several frontends take 'faults:leaves'") as caught:
        choose_frontend("faults:leaves")
    assert "--from sklearn or --from torch" in caught.value.hint


@pytest.mark.parametrize("source", ["model.xyz", "../../etc/passwd", "a b:c", "x;rm -rf:y"])
def test_hostile_and_foreign_names_find_none(source: str) -> None:
    with pytest.raises(UsageError, match="no frontend takes"):
        choose_frontend(source)


def test_foreign_objects_find_none() -> None:
    with pytest.raises(UsageError, match="no frontend takes an object of type dict"):
        choose_for_object({})


def test_an_unknown_frontend_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown frontend 'tocrh'") as caught:
        convert("x.onnx", framework="tocrh")
    assert "'torch'" in caught.value.hint


def test_a_missing_framework_names_the_command(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )
    assert missing_packages(find_frontend("torch")) == ("torch",)
    with pytest.raises(SmithError, match="needs torch, which is not installed") as caught:
        convert("net:Net", inputs=("image:float32[n,3,8,8]",))
    assert caught.value.hint == "pip install 'onnxsmith[torch]'"
