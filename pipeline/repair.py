"""Load a model file that may be invalid, and mend it on request."""

from __future__ import annotations

from pathlib import Path

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.repair import repair_graph
from onnxsmith.pipeline.validity import check_operators


def load_artifact(path: Path, *, repair: bool = False) -> tuple[Artifact, tuple[str, ...]]:
    """Read a model file; with ``repair``, mend what is invalid and say what was done.

    Raises:
        SmithError: The file holds no valid model, also after the repairs.
    """
    if not repair:
        artifact = Artifact.load(path)
        check_operators(artifact)
        return artifact, ()
    done: list[str] = []
    artifact = Artifact.load(path, done)
    before = _nodes_and_names(artifact)
    repair_graph(artifact.model)
    after = _nodes_and_names(artifact)
    if before[0] > after[0]:
        done.append(f"removed {before[0] - after[0]} nodes that no output depends on")
    if before[1] != after[1]:
        done.append("gave unique names to nodes and values, and sorted the nodes")
    done.append("inferred the shapes of all values anew")
    check_operators(artifact)
    return artifact, tuple(done)


def _nodes_and_names(artifact: Artifact) -> tuple[int, list[str | None]]:
    nodes = [node for graph in artifact.model.graphs() for node in graph]
    return len(nodes), [v.name for node in nodes for v in node.outputs if v.uses()]
