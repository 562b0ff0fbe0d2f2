"""One namespace over top-level folders: whoever looks finds the same modules.

``src/onnxsmith`` holds links to ``pipeline``, ``passes`` and ``custom_ops`` at the top. An editable
install, a wheel, a source archive, pytest, mypy and plain file lookup must agree, and nothing but
``onnxsmith`` may become importable.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from mypy.modulefinder import FindModuleCache, SearchPaths
from mypy.options import Options

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "onnxsmith"
LINKED = ("custom_ops", "passes", "pipeline")
OUTSIDE = (*LINKED, "models", "tests", "benchmarks", "docs", "src")
JUNK = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.tmp", "*.pyc")

WALK = """
import importlib, json, pkgutil, sys, onnxsmith
found = ["onnxsmith", *(m.name for m in pkgutil.walk_packages(onnxsmith.__path__, "onnxsmith."))]
print(json.dumps({"file": onnxsmith.__file__, "modules": sorted(found)}))
"""


def module_names(files: set[str]) -> set[str]:
    """Turn ``onnxsmith/a/b.py`` into ``onnxsmith.a.b``."""
    return {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in files
        if name.endswith(".py")
    }


def package_files(package: Path) -> set[str]:
    """All files under the package through its links, named from the package on."""
    return {
        str((Path(folder) / name).relative_to(package.parent))
        for folder, _, names in os.walk(package, followlinks=True)
        for name in names
        if "__pycache__" not in folder and not name.endswith((".pyc", ".tmp"))
    }


def run_python(code: str, cwd: Path, path: Path | None = None) -> str:
    """Run code in a new interpreter in which only ``path`` and the installed packages are seen."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built: a build leaves nothing behind here, and finds nothing old."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in ("src", *LINKED):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=JUNK)
    for file in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / file, copy)
    return copy


@pytest.fixture(scope="session")
def built(tree: Path) -> Path:
    """The folder with the source archive and the wheel that was built from it."""
    subprocess.run(
        [sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=tree,
        check=True,
        capture_output=True,
    )
    return tree / "dist"


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, as an installer lays it out."""
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return target


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """A user's project with packages of its own that are called like folders of ours."""
    for name in ("models", "pipeline", "passes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "net.py").write_text(f"OWNER = 'user of {name}'\n")
    return tmp_path


@pytest.mark.parametrize("name", LINKED)
def test_link_is_relative_so_that_a_clone_works_anywhere(name: str) -> None:
    assert (SOURCE / name).is_symlink()
    assert os.readlink(SOURCE / name) == f"../../{name}"


def test_every_folder_with_modules_is_a_package() -> None:
    files = package_files(SOURCE)
    folders = {str(Path(name).parent) for name in files if name.endswith(".py")}
    missing = sorted(folder for folder in folders if f"{folder}/__init__.py" not in files)
    assert not missing, f"setuptools leaves out folders without __init__.py: {missing}"


def test_wheel_holds_every_file_of_the_package(tree: Path, built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == package_files(tree / "src" / "onnxsmith")
    assert "onnxsmith/py.typed" in names
    assert any(name.endswith(".jinja") for name in names)


def test_source_archive_holds_every_file_of_the_package(tree: Path, built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
        links = [member.name for member in archive if member.issym() or member.islnk()]
    inside = {name.removeprefix("src/") for name in files if name.startswith("src/onnxsmith/")}
    assert inside == package_files(tree / "src" / "onnxsmith")
    assert not links, "an archive with links does not unpack everywhere"
    assert {"LICENSE", "README.md", "pyproject.toml", "constraints.txt"} <= files
    assert not [name for name in files if name.startswith("tests/")]


def test_wheel_finds_its_modules_without_the_repository(installed: Path, tmp_path: Path) -> None:
    seen = json.loads(run_python(WALK, tmp_path, installed))
    assert Path(seen["file"]).is_relative_to(installed)
    assert set(seen["modules"]) == module_names(package_files(installed / "onnxsmith"))


def test_editable_install_sees_the_modules_of_the_working_tree(tmp_path: Path) -> None:
    seen = json.loads(run_python(WALK, tmp_path))
    assert Path(seen["file"]) == SOURCE / "__init__.py", "run 'make test', or pip install -e ."
    assert set(seen["modules"]) == module_names(package_files(SOURCE))


@pytest.mark.parametrize("from_wheel", [True, False], ids=["wheel", "editable"])
def test_nothing_but_onnxsmith_becomes_importable(
    from_wheel: bool, installed: Path, tmp_path: Path
) -> None:
    code = (
        "import importlib.util, onnxsmith\n"
        f"print([n for n in {OUTSIDE!r} if importlib.util.find_spec(n)])"
    )
    assert run_python(code, tmp_path, installed if from_wheel else None).strip() == "[]"


@pytest.mark.parametrize("from_wheel", [True, False], ids=["wheel", "editable"])
def test_users_own_packages_stay_importable_beside_ours(
    from_wheel: bool, installed: Path, user_folder: Path
) -> None:
    code = (
        "import onnxsmith.pipeline, onnxsmith.passes.table\n"
        "from models.net import OWNER as a\n"
        "from pipeline.net import OWNER as b\n"
        "from passes.net import OWNER as c\n"
        "print(a, b, c, sep=', ')"
    )
    out = run_python(code, user_folder, installed if from_wheel else None)
    assert out.strip() == "user of models, user of pipeline, user of passes"


def test_pytest_looks_in_src_and_not_in_the_root() -> None:
    import onnxsmith

    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert options["pythonpath"] == ["src"]
    assert "--import-mode=importlib" in options["addopts"]
    assert onnxsmith.__file__ == str(SOURCE / "__init__.py")
    assert str(ROOT) not in sys.path, "run 'pytest' or 'python -P -m pytest': -m adds the root"


def test_mypy_sees_the_same_modules() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    search = SearchPaths((str(ROOT / config["mypy_path"]),), (), (), ())
    found = FindModuleCache(search, None, Options()).find_modules_recursive("onnxsmith")
    # mypy also reports plain folders, such as the templates', as namespace packages.
    modules = {source.module for source in found if (source.path or "").endswith(".py")}
    assert modules == module_names(package_files(SOURCE))
