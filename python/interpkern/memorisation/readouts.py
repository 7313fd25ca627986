"""Readouts that are solved for and not trained: exact where there is one."""

from dataclasses import replace

import numpy
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.tables import checked_tables
from interpkern.progress import Progress, reporting

LEAST_MARGIN = 1e-8
"""Below this the program's margin is rounding."""
NEVER_ACTIVE = 1e-9


def solve_readout(
    models: TableMLPs, tables: torch.Tensor | NDArray, *, progress: Progress | bool | None = None
) -> TableMLPs:
    """Replace r and c_out by ones that get every fact right, where the first layer allows any.

    A linear program looks, in float64, for r and c_out with every logit on its fact's side by as much as can be; the
    smallest is then 1. Where there are none the model keeps its readout. Rounding to float32 may lose a fact that the
    program has: check the logits.

    Shapes:
        models of B times (R, C, D, H); tables (B, R, C) of 0 and 1.

    Args:
        models: whose first layer stays.
        tables: the facts of each.
        progress: as in `interpkern.memorise`, counting models.

    Returns:
        TableMLPs.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Cover 1965, "Geometrical and statistical properties of systems of linear inequalities": half of all labellings
        of n points in general position are separable by n / 2 weights.

    Example:
        >>> models, tables = TableMLPs.init(1, 8, 8, 8, 48), random_tables(1, 8, 8)
        >>> solved = solve_readout(models, tables)
        >>> bool(((solved.logits() > 0) == tables.bool()).all())
        True
    """
    facts = checked_tables(models, tables)
    r, c_out = models.r.clone(), models.c_out.clone()
    with reporting(progress, "readouts", " models") as report:
        for index in range(len(models)):
            found = separating(hidden_of(models[index]), facts[index].flatten().numpy())
            if found is not None:
                r[index] = torch.from_numpy(found[:-1])
                c_out[index] = float(found[-1])
            if report:
                report(index + 1, len(models))
    return replace(models, r=r, c_out=c_out)


def hidden_of(model: TableMLPs) -> NDArray[numpy.float64]:
    """(R * C, H) hidden activations of the one model in a batch, in float64."""
    rows = model.E1[0].double() @ model.W[0].double().T + model.c[0].double()
    cols = model.E2[0].double() @ model.W[0].double().T
    return torch.relu(rows[:, None] + cols[None]).flatten(0, 1).numpy()


def separating(points: NDArray[numpy.float64], labels: NDArray) -> NDArray[numpy.float64] | None:
    """(H + 1,) weights and bias of the largest margin in the box of weights up to 1; None where no margin is positive.

    Columns are scaled to 1 first, so that the program, which always has an optimum, is well conditioned; a unit that is
    never active gets weight 0.
    """
    signs = 2.0 * labels - 1
    features = numpy.column_stack([points, numpy.ones(len(points))])
    scales = abs(features).max(axis=0)
    scales[scales < NEVER_ACTIVE] = numpy.inf
    rows = numpy.column_stack([-signs[:, None] * (features / scales), numpy.ones(len(points))])
    cost = numpy.zeros(rows.shape[1])
    cost[-1] = -1.0
    bounds = [(-1.0, 1.0)] * (rows.shape[1] - 1) + [(0.0, 1.0)]
    found = linprog(cost, A_ub=rows, b_ub=numpy.zeros(len(rows)), bounds=bounds, method="highs")
    if found.x is None:
        raise ValueError(f"models: the linear program of a readout did not end ({found.message})")
    return found.x[:-1] / scales / found.x[-1] if found.x[-1] > LEAST_MARGIN else None
