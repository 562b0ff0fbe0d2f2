"""``onnxsmith inspect``: say what is in a model and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxsmith.cli.options import dim_option, json_option

if TYPE_CHECKING:
    from onnxsmith.inspection.summary import Inspection


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@dim_option
@click.option("--nodes", is_flag=True, help="Also list each node with its shapes and operations.")
@json_option
def command(model: Path, dims: tuple[str, ...], nodes: bool, as_json: bool) -> None:
    """Say what is in a model and what one run of it costs.

    Free dimensions count as 1 unless --dim names their size. Weights are not read.
    """
    from onnxsmith.artifact import Artifact
    from onnxsmith.inspection.summary import inspect_artifact
    from onnxsmith.spec import parse_dims

    found = inspect_artifact(Artifact.load(model), parse_dims(dims))
    if as_json:
        from onnxsmith.cli.output import print_json

        print_json(found.to_json(nodes=nodes))
        return
    _show_facts(model.name, found)
    _show_operators(found)
    if nodes:
        _show_nodes(found)
    _show_history(found)
    _show_warnings(found)


def _show_facts(name: str, found: Inspection) -> None:
    from onnxsmith.cli.output import print_table

    opsets = ", ".join(f"{domain} {number}" for domain, number in found.opsets.items())
    types = ", ".join(f"{t} {_size(total.bytes)}" for t, total in found.weights.items())
    dims = ", ".join(f"{dim}={size}" for dim, size in found.dims.items())
    rows = [
        *(("input", str(value)) for value in found.spec.inputs),
        *(("output", str(value)) for value in found.spec.outputs),
        ("parameters", f"{found.parameters:,}"),
        ("weights", f"{_size(found.weight_bytes)} ({types})" if types else "none"),
        ("operations of a run", f"{_count(found.flops)} FLOPs, of them {_count(found.macs)} MACs"),
        ("memory of a run", _memory(found)),
        ("format", f"IR {found.ir_version}, opsets {opsets}"),
    ]
    if found.producer:
        rows.append(("written by", found.producer))
    if found.functions:
        rows.append(("functions", ", ".join(found.functions)))
    if dims:
        rows.append(("figures are for", dims))
    print_table(name, ("", ""), rows)


def _memory(found: Inspection) -> str:
    where = f" at {found.peak.node}" if found.peak.node else ""
    values = f"{_size(found.peak.bytes)} for values between nodes{where}"
    return f"about {_size(found.memory_bytes)}: {_size(found.weight_bytes)} for weights, {values}"


def _show_operators(found: Inspection) -> None:
    from onnxsmith.cli.output import print_table

    costs = {cost.operator: cost for cost in found.costs}
    total = found.flops or 1
    rows: list[tuple[object, ...]] = []
    order = sorted(found.operators, key=lambda n: (-costs[n].flops if n in costs else 0, n))
    for name in order:
        cost = costs.get(name)
        rows.append(
            (
                name,
                found.operators[name],
                _count(cost.macs) if cost else "",
                _count(cost.flops) if cost else "",
                f"{100 * cost.flops / total:.1f}%" if cost else "",
                found.uncounted.get(name, ""),
            )
        )
    columns = ("operator", "nodes", "MACs", "FLOPs", "share", "not counted")
    print_table("Operators", columns if found.uncounted else columns[:-1], _trim(rows, found))


def _trim(rows: list[tuple[object, ...]], found: Inspection) -> list[tuple[object, ...]]:
    return rows if found.uncounted else [row[:-1] for row in rows]


def _show_nodes(found: Inspection) -> None:
    from onnxsmith.cli.output import print_table

    rows = [
        (
            node.name,
            node.operator,
            node.outputs,
            _count(node.macs),
            _count(node.flops),
            node.reason or node.note or ("" if node.counted else "the cheaper branch"),
        )
        for node in found.nodes
    ]
    print_table("Nodes", ("node", "operator", "outputs", "MACs", "FLOPs", "remark"), rows)


def _show_history(found: Inspection) -> None:
    from onnxsmith.cli.output import print_table

    if not found.history:
        return
    rows = [
        (number, step.kind, step.name, _pairs(step.options), _pairs(step.result))
        for number, step in enumerate(found.history, 1)
    ]
    print_table("History", ("", "kind", "step", "options", "result"), rows)


def _show_warnings(found: Inspection) -> None:
    from onnxsmith.cli.output import print_warning

    for warning in found.warnings:
        print_warning(warning)
    if found.uncounted:
        print_warning(f"operations not counted: {', '.join(sorted(found.uncounted))}")


def _pairs(values: object) -> str:
    if not isinstance(values, dict):
        return str(values)
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _count(number: int) -> str:
    """Return a count with a unit: 786560 is 786.6 K."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= limit:
            return f"{number / limit:.4g} {unit}"
    return str(number)


def _size(number: int) -> str:
    """Return bytes with a decimal unit, as disks and reports count."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.4g} {unit}"
    return f"{number} B"
