"""What the frontend ``jax`` takes, and what it says where JAX is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.jax.frontend import JaxFrontend
from onnxsmith.pipeline.frontends.table import choose_frontend


@pytest.mark.parametrize(
    "line", ["import jax.numpy as jnp", "from flax import nnx", "import equinox"]
)
def test_takes_callables_of_modules_that_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arrays.py").write_text(f"{line}\n\ndef net(x):\n    return x\n")
    assert choose_frontend("arrays:net").name == "jax"


def test_takes_no_files_and_no_other_functions() -> None:
    assert JaxFrontend().match("model.onnx") is None
    assert JaxFrontend().match_object(lambda x: x) is None
    assert JaxFrontend().match_object((1, 2)) is None


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JaxFrontend, "packages", ("a_package_that_is_not_there",))
    with pytest.raises(SmithError) as caught:
        JaxFrontend().open(ConvertRequest("arrays:net"))
    assert "onnxsmith env create jax" in caught.value.hint
