import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from onnxsmith.cli import main as program
from onnxsmith.cli.main import COMMANDS

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch", "sklearn", "pydantic")


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from onnxsmith.cli.main import run\n"
        "code = run(['--help'])\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps([code, found]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stderr) == [0, []]
    for name in COMMANDS:
        assert f"\n  {name}" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str, run_cli: Callable[..., Any]) -> None:
    ended = run_cli(name, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: onnxsmith {name}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimise"], "did you mean 'optimize'"),
        (["xyzzy"], "see 'onnxsmith --help'"),
        (["bench"], "onnxsmith bench --help"),
        (["passes", "show", "fold-constant"], "did you mean 'fold-constants'"),
        (["optimize", "a.onnx"], "onnxsmith optimize --help"),
        (["optimize", "a.onnx", "-o", "b.onnx", "--verify", "never"], "--verify"),
    ],
)
def test_wrong_usage_is_two_lines_and_code_2(
    arguments: list[str], words: str, run_cli: Callable[..., Any]
) -> None:
    ended = run_cli(*arguments)
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2
    assert words in ended.err


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (program.SmithError("m", "h"), 1),
        (program.UsageError("m", "h"), 2),
        (program.RefusedError("m", "h"), 4),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exit_codes(
    raised: BaseException, code: int, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise raised

    monkeypatch.setattr(program.cli, "main", fail)
    ended = run_cli("doctor")
    assert ended.code == code
    assert "Traceback" not in ended.err


def test_messages_are_folded_and_never_read_as_markup(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise program.SmithError("[red]two\nlines\x1b[31m[/red]", "mend")

    monkeypatch.setattr(program.cli, "main", fail)
    assert run_cli("doctor").err == "error: [red]two lines [31m[/red]\nhint: mend\n"
