"""What README and the guide show works: code runs, commands parse, recipes load, links lead on."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml

from onnxsmith.cli.main import cli
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.recipe import parse_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# Examples with these run where the frameworks are installed: 'make test-frameworks'.
FRAMEWORKS = ("catboost", "equinox", "flax", "jax", "keras", "lightgbm", "paddle", "tensorflow")
FRAMEWORKS += ("transformers", "xgboost")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    """All code blocks in a language, with the name of their page."""
    return [
        (str(page.relative_to(ROOT)), text)
        for page in PAGES
        for found, text in BLOCK.findall(page.read_text())
        if found == language
    ]


def runs_here(code: str) -> bool:
    """Whether the frameworks that an example imports are installed."""
    imported = re.findall(r"^\s*(?:import|from) (\w+)", code, re.MULTILINE)
    return all(find_spec(name) for name in set(imported) & set(FRAMEWORKS))


def command_lines(program: str) -> list[tuple[str, str]]:
    return [
        (page, line)
        for page, text in blocks("sh")
        for line in text.replace("\\\n", " ").splitlines()
        if line.split()[:1] == [program]
    ]


def parse(command: click.Command, name: str, arguments: list[str]) -> None:
    """Let click read a command line as it would to run it, and run nothing."""
    context = command.make_context(name, list(arguments))
    if isinstance(command, click.Group):
        inner = command.get_command(context, arguments[0])
        assert inner is not None, f"{name} has no command {arguments[0]}"
        parse(inner, arguments[0], arguments[1:])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as renderers of Markdown make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_pages_are_found() -> None:
    assert len(PAGES) > 15
    assert len(command_lines("onnxsmith")) > 20
    assert blocks("python")
    assert blocks("yaml")


@pytest.mark.parametrize(
    ("page", "code"), [(page, code) for page, code in blocks("python") if runs_here(code)]
)
def test_python_example_runs(page: str, code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"


@pytest.mark.parametrize(("page", "line"), command_lines("onnxsmith"))
def test_command_line_parses(page: str, line: str) -> None:
    parse(cli, "onnxsmith", shlex.split(line, comments=True)[1:])


def test_an_unknown_option_would_be_noticed() -> None:
    with pytest.raises(click.NoSuchOption):
        parse(cli, "onnxsmith", shlex.split("optimize a.onnx -o b.onnx --speed 3"))


@pytest.mark.parametrize(("page", "line"), command_lines("make"))
def test_make_target_exists(page: str, line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    assert set(asked) <= set(targets)


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_recipe_or_network_loads(page: str, text: str) -> None:
    value = yaml.safe_load(text)
    if "layers" in value:
        assert build(Network.model_validate(value)).spec.outputs
    else:
        parse_recipe(value, page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{link} leads nowhere"
        assert found.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert not anchor or anchor in anchors(found), f"{link}: no such heading"
