"""What the frontend ``keras`` takes, and what it says where Keras is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.keras.frontend import KerasFrontend
from onnxsmith.pipeline.frontends.table import choose_frontend, missing_packages


@pytest.mark.parametrize("name", ["model.keras", "MODEL.KERAS", "old.h5", "old.hdf5"])
def test_takes_files_by_suffix(name: str) -> None:
    assert choose_frontend(name).name == "keras"


def test_takes_callables_of_modules_that_import_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "with_keras.py").write_text("from keras import layers\n\ndef build():\n    ...\n")
    (tmp_path / "without.py").write_text("def build():\n    ...\n")
    assert choose_frontend("with_keras:build").name == "keras"
    assert KerasFrontend().match("without:build") is None
    assert KerasFrontend().match("model.onnx") is None


def test_other_objects_are_not_its_own() -> None:
    assert KerasFrontend().match_object({}) is None


def test_a_missing_package_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KerasFrontend, "packages", ("a_package_that_is_not_there",))
    frontend = KerasFrontend()
    assert missing_packages(frontend) == ("a_package_that_is_not_there",)
    with pytest.raises(SmithError) as caught:
        frontend.open(ConvertRequest(str(tmp_path / "model.keras")))
    assert "pip install 'onnxsmith[keras]'" in caught.value.hint
