"""Who may import whom, read from the source itself.

core <- custom_ops <- passes <- pipeline <- cli: nothing imports upward, nothing imports the
repository's top-level folders by their bare names, and a framework is imported only by its own
frontend.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("custom_ops", "passes", "pipeline", "cli")
TOP_FOLDERS = {"models", "tests", "benchmarks", "custom_ops", "passes", "pipeline"}

# Package to the frontends that may import it.
FRAMEWORKS = {
    "torch": ("torch", "huggingface", "keras"),
    "torchvision": ("torch",),
    "transformers": ("huggingface",),
    "tensorflow": ("tensorflow", "keras", "tflite"),
    "tf2onnx": ("tensorflow", "keras", "tflite"),
    "ai_edge_litert": ("tflite",),
    "keras": ("keras",),
    "jax": ("jax", "keras"),
    "jax2onnx": ("jax", "keras"),
    "flax": ("jax",),
    "equinox": ("jax",),
    "skl2onnx": ("sklearn", "xgboost", "lightgbm"),
    "onnxmltools": ("xgboost", "lightgbm"),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
    "paddle": ("paddle",),
    "paddle2onnx": ("paddle",),
    "mxnet": ("mxnet",),
    "cv2": ("caffe",),
}
# What a command's help must not wait for.
HEAVY = ("numpy", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "sklearn", "torch", "matplotlib")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70


@dataclass(frozen=True)
class Import:
    """One import statement's target."""

    module: str
    target: str
    line: int
    at_top: bool
    for_types: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else ("onnxsmith", *parts)
    return ".".join(parts).removesuffix(".__init__")


def imports_of(module: str, tree: ast.Module) -> Iterator[Import]:
    """Yield every import in a module, those in functions and type-checking blocks included."""
    top = {id(node) for node in tree.body}
    types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from onnxsmith import passes` names a module too; a class's name does no harm.
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            yield Import(module, target, node.lineno, id(node) in top, id(node) in types)


def layer(module: str) -> int:
    """Return how far up a module stands; the program's entry belongs to the command line."""
    part = [*module.split("."), ""][1]
    if part == "__main__":
        return len(LAYERS)
    return LAYERS.index(part) + 1 if part in LAYERS else 0


def upward(found: Import) -> bool:
    """Say whether an import points upward.

    The package's face may name types of upper layers: it hands them out lazily.
    """
    if not found.target.startswith("onnxsmith."):
        return False
    if found.module == "onnxsmith" and found.for_types:
        return False
    return layer(found.target) > layer(found.module)


def misplaced_framework(found: Import) -> bool:
    """Say whether a framework is imported outside its frontend, or before it is used.

    ``frontends/torch/frontend.py`` is read whenever a frontend is looked for, so it imports torch
    in functions only; its neighbours in ``frontends/torch/`` are read when it runs.
    """
    package = found.target.partition(".")[0]
    if package not in FRAMEWORKS or found.for_types:
        return False
    homes = [f"onnxsmith.pipeline.frontends.{name}" for name in FRAMEWORKS[package]]
    if found.module in homes or found.module in [f"{home}.frontend" for home in homes]:
        return found.at_top
    return not found.module.startswith(tuple(f"{home}." for home in homes))


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its docstring, which may be as long as it needs."""
    lines = (node.end_lineno or 0) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return lines
    return lines - ((node.body[0].end_lineno or 0) - node.body[0].lineno + 1)


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return [
        found
        for path in python_files("src", "custom_ops", "passes", "pipeline")
        for found in imports_of(module_of(path), ast.parse(path.read_text()))
    ]


def test_the_test_sees_all_layers(imports: list[Import]) -> None:
    assert {layer(found.module) for found in imports} >= {0, 2, 3, 4}
    assert len(imports) > 500


def test_nothing_imports_upward(imports: list[Import]) -> None:
    assert not [str(found) for found in imports if upward(found)]


def test_nothing_imports_the_top_folders_by_their_bare_names(imports: list[Import]) -> None:
    assert not [str(f) for f in imports if f.target.partition(".")[0] in TOP_FOLDERS]


def test_frameworks_are_imported_by_their_own_frontend_when_used(imports: list[Import]) -> None:
    assert not [str(found) for found in imports if misplaced_framework(found)]


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("onnxsmith.spec", "from onnxsmith import passes", True),
        ("onnxsmith.spec", "def f():\n    import onnxsmith.pipeline.run", True),
        ("onnxsmith.passes.base", "from onnxsmith.pipeline.data.base import Batch", True),
        ("onnxsmith.passes.base", "from onnxsmith.custom_ops.base import CustomOp", False),
        ("onnxsmith.pipeline.run", "from onnxsmith.cli.output import console", True),
        ("onnxsmith.__main__", "from onnxsmith.cli.main import main", False),
        ("onnxsmith", "from onnxsmith.pipeline import run", True),
        ("onnxsmith", "if TYPE_CHECKING:\n    from onnxsmith.pipeline import run", False),
    ],
)
def test_upward_imports_are_recognised(module: str, source: str, expected: bool) -> None:
    (found,) = imports_of(module, ast.parse(source))
    assert upward(found) is expected


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("onnxsmith.pipeline.run", "def f():\n    import torch", True),
        ("onnxsmith.pipeline.frontends.torch", "import torch", True),
        ("onnxsmith.pipeline.frontends.torch.frontend", "import torch", True),
        ("onnxsmith.pipeline.frontends.torch.frontend", "def f():\n    import torch.export", False),
        ("onnxsmith.pipeline.frontends.torch.inputs", "import torch", False),
        ("onnxsmith.pipeline.frontends.torchlike.inputs", "import torch", True),
        ("onnxsmith.pipeline.frontends.sklearn.frontend", "def f():\n    import torch", True),
        ("onnxsmith.pipeline.frontends.sklearn.frontend", "def f():\n    import skl2onnx", False),
    ],
)
def test_misplaced_frameworks_are_recognised(module: str, source: str, expected: bool) -> None:
    (found,) = imports_of(module, ast.parse(source))
    assert misplaced_framework(found) is expected


def test_help_of_every_command_waits_for_nothing_heavy() -> None:
    code = (
        "import importlib, json, sys\n"
        "from onnxsmith.cli.main import COMMANDS\n"
        "late = {}\n"
        "for name, (where, _) in COMMANDS.items():\n"
        "    importlib.import_module(where.partition(':')[0])\n"
        f"    for heavy in {HEAVY!r}:\n"
        "        if heavy in sys.modules:\n"
        "            late.setdefault(heavy, name)\n"
        "print(json.dumps(late))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, onnxsmith; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_files_stay_small() -> None:
    files = python_files(
        "src", "custom_ops", "passes", "pipeline", "models", "tests", "benchmarks", "docs"
    )
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in files}
    assert not {name: count for name, count in lines.items() if count > MAX_FILE_LINES}


def test_functions_stay_small() -> None:
    long: list[str] = []
    for path in python_files("src", "custom_ops", "passes", "pipeline", "benchmarks", "docs"):
        tree = ast.parse(path.read_text())
        long += [
            f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (lines := code_lines(node)) > MAX_FUNCTION_LINES
        ]
    assert not long
