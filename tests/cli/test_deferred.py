"""Short commands do not wait for modules that they never use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import onnx

# What a conversion of a small file has no use for.
UNUSED = ("torch", "sklearn", "onnxscript", "sympy.core", "onnx.reference", "jinja2", "pydantic")


def test_converting_a_small_onnx_file_loads_nothing_that_it_has_no_use_for(
    tmp_path: Path,
    parse_model: Callable[..., onnx.ModelProto],
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    model = parse_model("g (float[batch, 2] x) => (float[batch, 2] y) { y = Relu(x) }")
    onnx.save(model, tmp_path / "in.onnx")
    code = (
        "import json, sys\n"
        "from onnxsmith.cli.main import main\n"
        "try:\n"
        "    main(['convert', sys.argv[1], '-o', sys.argv[2]])\n"
        "except SystemExit as end:\n"
        f"    print(json.dumps([end.code, [n for n in {UNUSED!r} if n in sys.modules]]))"
    )
    done = run_python(code, tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []], done.stderr


def test_a_deferred_module_works_when_it_is_used(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    code = (
        "import sys\n"
        "from onnxsmith.cli.deferred import defer_imports\n"
        "defer_imports(); defer_imports()\n"
        "import onnx_ir as ir\n"
        "early = 'sympy.core' in sys.modules\n"
        "print(early, ir.SymbolicDim('n') * 2 + 1, 'sympy.core' in sys.modules, len(sys.meta_path))"
    )
    plain = run_python("import sys; print(len(sys.meta_path))")
    words = run_python(code).stdout.split()
    assert words[0] == "False"
    assert words[-2:] == ["True", str(int(plain.stdout) + 1)]
    assert "".join(words[1:-2]).replace("(", "").replace(")", "") in {"2*n+1", "1+2*n"}
