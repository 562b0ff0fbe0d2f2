"""The lists of packages: exact, complete, and never with the plain runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.environments.locks import find_lock, read_lock
from onnxsmith.pipeline.environments.places import default_folder, lock_names
from onnxsmith.pipeline.frontends.interpreters import served_by

HEAD = "# For a test.\n# python: >=3.11,<3.14\n# imports: a, b.c\n# gigabytes: 0.5\n"
LINUX = {"platform_machine": "x86_64", "sys_platform": "linux", "python_version": "3.12"}


def test_there_are_locks() -> None:
    assert {"jax", "paddle", "tensorflow"} <= set(lock_names())


@pytest.mark.parametrize("name", lock_names())
def test_each_lock_serves_a_frontend_and_holds_what_a_worker_needs(name: str) -> None:
    lock = find_lock(name)
    assert lock.purpose.endswith(".")
    assert served_by(name)
    packages = lock.packages(LINUX)
    assert {"numpy", "onnx", "onnx-ir", "ml-dtypes"} <= set(packages)
    # They overwrite each other's files with those of the GPU build.
    assert not [package for package in packages if package.startswith("onnxruntime")]
    assert lock.python.contains("3.11.0")
    assert 0.1 < lock.gigabytes < 10


@pytest.mark.parametrize("name", lock_names())
def test_locks_agree_with_what_the_tests_use(name: str) -> None:
    """An export differs by version: environments and the tests' own take the same ones."""
    text = (Path(__file__).parents[3] / "constraints.txt").read_text()
    pinned = dict(line.split("==") for line in text.splitlines() if "==" in line)
    known = {key.lower().replace("_", "-"): value for key, value in pinned.items()}
    locked = find_lock(name).packages(LINUX)
    differing = {p for p, version in locked.items() if known.get(p, version) != version}
    # PaddlePaddle itself asks for exactly this older one.
    assert differing == ({"opt-einsum"} if name == "paddle" else set())


def test_markers_choose_the_build() -> None:
    lock = find_lock("tensorflow")
    assert "tensorflow-cpu" in lock.packages(LINUX)
    other = lock.packages({**LINUX, "platform_machine": "arm64", "sys_platform": "darwin"})
    assert "tensorflow" in other
    assert "tensorflow-cpu" not in other


def test_an_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no environment 'padle'") as caught:
        find_lock("padle")
    assert "'paddle'" in caught.value.hint
    assert "tensorflow" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "a>=1\n", "line 5 .* does not pin one version: 'a>=1'"),
        (HEAD + "a==1.*\n", "line 5 .* does not pin one version"),
        (HEAD + "a==1,!=2\n", "line 5 .* does not pin one version"),
        (HEAD + "\n--index-url x\n", "line 6 .* is no requirement: '--index-url x'"),
        ("# For a test.\n# python: >=3.11\n# gigabytes: 1\na==1\n", "no line '# imports: ...'"),
        (HEAD.replace(">=3.11,<3.14", "three"), "head of the lock file .* cannot be read"),
        (HEAD.replace("0.5", "much"), "head of the lock file .* cannot be read"),
    ],
)
def test_a_lock_that_does_not_pin_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(text)
    with pytest.raises(SmithError, match=message) as caught:
        read_lock(path, "wrong")
    assert caught.value.hint


def test_a_lock_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match="cannot read the lock file"):
        read_lock(tmp_path / "no.txt", "mine")
    (tmp_path / "no.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SmithError, match="cannot read the lock file"):
        read_lock(tmp_path / "no.txt", "mine")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "A", "a b"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(HEAD)
    with pytest.raises(UsageError, match="is no name for an environment"):
        read_lock(path, name)


def test_comments_and_hashes_are_left_to_the_installer(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(
        HEAD + "a==1.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\nb==2  # why\n"
    )
    lock = read_lock(path, "mine")
    assert lock.packages(LINUX) == {"a": "1.0", "b": "2"}
    assert lock.imports == ("a", "b.c")
    assert lock.purpose == "For a test."


def test_the_place_follows_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_folder() == Path("/data/onnxsmith/environments")
    for ignored in ("relative", ""):
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert default_folder() == Path.home() / ".local/share/onnxsmith/environments"
    monkeypatch.setattr("sys.platform", "darwin")
    assert "Application Support" in str(default_folder())
