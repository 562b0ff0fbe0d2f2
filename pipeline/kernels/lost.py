"""Fusions that the runtime no longer makes of a rewritten model: were they worth having?"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.kernels.cases import final_cases
from onnxsmith.pipeline.kernels.measure import Kernel, measure_kernels
from onnxsmith.target import Target


def lost_in_words(
    lost: Mapping[str, tuple[int, int]],
    before: Artifact,
    given_up: Collection[str],
    target: Target,
    dims: Mapping[str, int] | None = None,
    threads: int | None = None,
) -> tuple[str, ...]:
    """Name the fused operators that became fewer, and say which of them were faster.

    Args:
        lost: Operators, with their domain, and how often they ran before and run now.
        before: The model that the runtime made them of.
        given_up: Operators, without their domain, that were left out on purpose.
        target: Where the model will run.
        dims: Sizes of symbolic dimensions; those not named are 1.
        threads: Threads within an operator; None leaves the choice to the runtime.

    Raises:
        SmithError: The model does not run on the target.
    """
    missed = {name: _plain(name) for name in lost if _plain(name) not in given_up}
    if not missed:
        return ()
    faster = faster_fused(before, set(missed.values()), target, dims, threads)
    words = []
    for name, plain in missed.items():
        then, now = lost[name]
        why = f", and {faster[plain].comparison.sentence()}" if plain in faster else ""
        words.append(f"the runtime makes {now} {name} where it made {then} of the input{why}")
    return tuple(words)


def _plain(name: str) -> str:
    return name.rpartition(".")[2]


def faster_fused(
    artifact: Artifact,
    names: Collection[str],
    target: Target,
    dims: Mapping[str, int] | None = None,
    threads: int | None = None,
) -> dict[str, Kernel]:
    """Return which of the named operators, as the runtime makes them of a model, beat their parts.

    Args:
        artifact: The model.
        names: Operators without their domain.
        target: Where it will run.
        dims: Sizes of symbolic dimensions; those not named are 1.
        threads: Threads within an operator; None leaves the choice to the runtime.

    Raises:
        SmithError: The model does not run on the target.
    """
    cases = final_cases(artifact, target, dims)
    wanted = {case: count for case, count in cases.items() if case.op_type in names}
    kernels = measure_kernels(wanted, target, threads)
    return {k.op_type: k for k in kernels if k.comparison.verdict == "slower"}
