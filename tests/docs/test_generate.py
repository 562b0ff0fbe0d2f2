"""The generated pages of docs/reference say what the program says now."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_generate(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(root / "docs" / "generate.py"), *options],
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "generate.py", tmp_path / "docs")
    return tmp_path


def test_pages_are_up_to_date() -> None:
    done = run_generate(ROOT, "--check")
    assert done.returncode == 0, done.stderr


def test_check_names_missing_changed_and_leftover_pages(copied: Path) -> None:
    assert run_generate(copied).returncode == 0
    assert run_generate(copied, "--check").returncode == 0
    pages = copied / "docs" / "reference"
    (pages / "passes.md").unlink()
    (pages / "cli.md").write_text("old")
    (pages / "gone.md").write_text("of a table that is no more")
    done = run_generate(copied, "--check")
    assert done.returncode == 1
    assert "cli.md, gone.md, passes.md" in done.stderr
    assert (pages / "cli.md").read_text() == "old"


def test_every_pass_command_metric_and_target_is_listed() -> None:
    from onnxsmith.cli.main import COMMANDS
    from onnxsmith.passes.table import PASSES
    from onnxsmith.pipeline.evaluation.table import METRICS
    from onnxsmith.target import TARGETS

    folder = ROOT / "docs" / "reference"
    for page, names, form in (
        ("cli.md", COMMANDS, "\n## {}\n"),
        ("passes.md", PASSES.rows, "\n## {}\n"),
        ("metrics.md", METRICS.rows, "\n| `{}` |"),
        ("targets.md", TARGETS, "\n| `{}` |"),
    ):
        text = (folder / page).read_text()
        assert [name for name in names if form.format(name) not in text] == []
