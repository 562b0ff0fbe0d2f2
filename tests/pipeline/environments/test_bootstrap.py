"""A worker's interpreter sees its own packages, and nothing of ours but onnxsmith."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnxsmith
from onnxsmith.pipeline.environments import bootstrap

PACKAGE = Path(onnxsmith.__file__).parent


def run(python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-P", str(bootstrap.__file__), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_only_our_package_becomes_importable(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "e")], check=True)
    module = tmp_path / "look.py"
    module.write_text(
        "import importlib.util, sys\n"
        "import onnxsmith.errors, onnxsmith.pipeline.environments.places as places\n"
        "names = ['numpy', 'onnx', 'click', 'models', 'pipeline', 'passes', 'src']\n"
        "print([n for n in names if importlib.util.find_spec(n)], sys.argv[1:])\n"
        "print(onnxsmith.__file__)\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import runpy; "
    code += f"runpy.run_path({bootstrap.__file__!r})['main']([{str(PACKAGE)!r}, 'look', 'a b'])"
    python = tmp_path / "e" / "bin" / "python"
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, file = done.stdout.splitlines()
    assert names == "[] ['a b']"
    assert Path(file) == PACKAGE / "__init__.py"


def test_a_module_runs_as_the_main_one() -> None:
    done = run(sys.executable, str(PACKAGE), "onnxsmith.pipeline.environments.places")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_folder_is_an_error(tmp_path: Path) -> None:
    assert run(sys.executable, str(tmp_path), "onnxsmith.errors").returncode != 0
