import sys
from pathlib import Path

import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.loading import is_callable_name, load_callable, user_code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_loads_from_the_current_folder_and_its_late_imports(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "net.py").write_text(
        "def build():\n    from models.parts import SIZE\n    return SIZE\n"
    )
    (folder / "models" / "parts.py").write_text("SIZE = 7\n")
    assert load_callable("models.net:build")() == 7


def test_user_folder_named_like_ours_is_the_users(folder: Path) -> None:
    (folder / "pipeline").mkdir()
    (folder / "pipeline" / "__init__.py").write_text("def build():\n    return 'mine'\n")
    assert load_callable("pipeline:build")() == "mine"


def test_nested_attribute(folder: Path) -> None:
    (folder / "nested_zoo.py").write_text(
        "class Zoo:\n    @staticmethod\n    def net(): return 3\n"
    )
    assert load_callable("nested_zoo:Zoo.net")() == 3


def test_name_taken_by_a_loaded_module_is_refused(folder: Path) -> None:
    (folder / "json.py").write_text("def build(): return 1\n")
    with pytest.raises(SmithError, match="'json' of the current folder is taken"):
        load_callable("json:build")


@pytest.mark.parametrize("text", ["net", "net:", ":build", "a b:c", "../net:build", "net.py:x y"])
def test_other_forms_are_usage_errors(text: str) -> None:
    assert not is_callable_name(text)
    with pytest.raises(UsageError):
        load_callable(text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import not_there_at_all\n", "importing 'bad_net' failed: ModuleNotFoundError: No module"),
        ("raise ValueError('two\\nlines')\n", "failed: ValueError: two lines"),
        ("import sys\nsys.exit(3)\n", "failed: SystemExit: 3"),
        ("def build(:\n", "failed: SyntaxError"),
        ("build = 3\n", "is not callable: it is of type int"),
        ("def Build(): ...\n", "has no 'build'"),
    ],
)
def test_bad_modules_say_what_in_one_line(folder: Path, body: str, message: str) -> None:
    (folder / "bad_net.py").write_text(body)
    with pytest.raises(SmithError, match=message) as caught:
        load_callable("bad_net:build")
    assert "\n" not in caught.value.message + caught.value.hint
    assert caught.value.hint


def test_missing_module(folder: Path) -> None:
    with pytest.raises(SmithError, match=r"there is no module 'absent_pkg.net'"):
        load_callable("absent_pkg.net:build")


def test_user_code_keeps_interrupts_and_own_errors() -> None:
    with pytest.raises(KeyboardInterrupt), user_code("calling"):
        raise KeyboardInterrupt
    with pytest.raises(SmithError, match=r"^mine$"), user_code("calling"):
        raise SmithError("mine", "hint")
    with pytest.raises(SmithError) as caught, user_code("calling 'x:y'"):
        raise RuntimeError("a" * 5000)
    assert len(caught.value.message) < 400
