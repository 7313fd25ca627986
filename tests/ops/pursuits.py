"""Samples, dictionaries and judges for the tests of `matching_pursuit`."""

from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from scipy.optimize import nnls
from torch.nn.functional import normalize

from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit import matching_pursuit, path_changes
from interpkern.ops.sparse_code import SparseCode
from tests.tolerances import TOLERANCES

METHODS = ("mp", "mp_refit", "omp")
OPERATION = "matching_pursuit"
SIGNS = [pytest.param(False, id="signed"), pytest.param(True, id="nonnegative")]
SHAPES = [(1, 1, 1, 1), (7, 31, 33, 5), (33, 7, 257, 31), (31, 33, 31, 40), (3, 257, 7, 7), (17, 1, 5, 3), (2, 9, 1, 4)]
"""(N, D, M, k), with k above M, above the rank, one atom, one dimension."""


def within(quantity: str) -> float:
    """The tolerance of a quantity of this operation."""
    return TOLERANCES[OPERATION, quantity]


def activations(samples: int, width: int, seed: int = 0, world: int = 0) -> torch.Tensor:
    """(N, D) rows as a model has them: a shared mean, few strong directions, a power-law spectrum, norms that vary.

    Rows of one `world` share mean and directions, whatever their seed.
    """
    shared, own = torch.Generator().manual_seed(1000 + world), torch.Generator().manual_seed(seed)
    rank = max(1, width // 2)
    directions = normalize(torch.randn(rank, width, generator=shared), dim=1)
    spectrum = torch.arange(1, rank + 1) ** -0.7
    mean = normalize(torch.randn(1, width, generator=shared), dim=1)
    strength = torch.randn(samples, rank, generator=own) * spectrum
    noise = torch.randn(samples, width, generator=own) * 0.3 / width**0.5
    return (mean + strength @ directions + noise) * torch.randn(samples, 1, generator=own).mul(0.3).exp()


def problem(samples: int, width: int, atoms: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (N, D), and a dictionary (M, D) of other activations of the same world, as ITDA builds it."""
    return activations(samples, width, seed), normalize(activations(atoms, width, seed + 1), dim=1)


def gaussian(samples: int, width: int, atoms: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples and atoms of no structure: atoms of low coherence, supports that are well conditioned."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, width, generator=generator)
    return x, normalize(torch.randn(atoms, width, generator=generator), dim=1)


def with_one_massive_element(samples: int, width: int, atoms: int, power: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples, and 50 of the atoms, whose fourth element is `power` times what it was."""
    x, rows = gaussian(samples, width, atoms, 1)
    x[:, 3] *= power
    rows[:50, 3] *= power
    return x, normalize(rows, dim=1)


def low_coherence(width: int) -> torch.Tensor:
    """(2 D, D) unit rows, the axes and a Hadamard basis: no two have a product above 1 / sqrt(D)."""
    hadamard = torch.ones(1, 1)
    while len(hadamard) < width:
        hadamard = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), hadamard)
    return torch.cat([torch.eye(width), hadamard / width**0.5])


DEVICES: dict[str, torch.device] = {}
"""Where a backend's tensors are, unless on the CPU; those of a call are moved there and back."""


def pursue(x: torch.Tensor, atoms: torch.Tensor, k: int, **settings: Any) -> SparseCode:
    """`matching_pursuit` on one thread and without a bar, unless `settings` say otherwise."""
    settings = {"threads": 1, "progress": False, **settings}
    device = DEVICES.get(settings.get("backend", "auto"))
    if device is None:
        return matching_pursuit(x, atoms, k, **settings)
    gram = settings.pop("gram", None)
    if isinstance(gram, Gram) and gram.atoms.device.type != device.type:
        kept = gram.prepared is None or gram.prepared.products is not None
        gram = Gram(gram.atoms.to(device), products=kept)
    elif isinstance(gram, torch.Tensor):
        gram = gram.to(device)
    x, atoms = (torch.as_tensor(rows).to(device) for rows in (x, atoms))
    code = matching_pursuit(x, atoms, k, gram=gram, **settings)
    assert code.indices.device.type == code.residual_norm.device.type == device.type
    return moved(code, torch.device("cpu"))


def both_forms(x: torch.Tensor, atoms: torch.Tensor, k: int, **settings: Any) -> SparseCode:
    """The code, once it has the same bits with the Gram and without."""
    codes = [pursue(x, atoms, k, gram=Gram(atoms, products=kept), **settings) for kept in (True, False)]
    assert same_bits(*codes)
    return codes[0]


def changed(x: torch.Tensor, atoms: torch.Tensor, code: SparseCode, known: int, **settings: Any) -> torch.Tensor:
    """`path_changes` where the backend's tensors are."""
    device = DEVICES.get(settings["backend"], torch.device("cpu"))
    return path_changes(x.to(device), atoms.to(device), moved(code, device), known, **settings).cpu()


def moved(code: SparseCode, device: torch.device) -> SparseCode:
    """The same code on a device."""
    return SparseCode(code.indices.to(device), code.coefficients.to(device), code.residual_norm.to(device))


def pursue_in_float64(x: torch.Tensor, atoms: torch.Tensor, k: int, **settings: Any) -> SparseCode:
    """The reference in float64."""
    return pursue(x.double(), atoms.double(), k, **{**settings, "backend": "reference"})


def same_bits(a: SparseCode, b: SparseCode) -> bool:
    """Whether two codes agree to the last bit."""
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("indices", "coefficients", "residual_norm"))


def rows_of(code: SparseCode, rows: slice | torch.Tensor) -> SparseCode:
    """Some samples of a code."""
    return SparseCode(code.indices[rows], code.coefficients[rows], code.residual_norm[rows])


def picks(code: SparseCode) -> torch.Tensor:
    """(N,) int64, how many picks each sample has."""
    return (code.indices >= 0).sum(1)


def fvu(x: torch.Tensor, atoms: torch.Tensor, code: SparseCode) -> float:
    """Share of the variance of the samples that their code leaves unexplained, in float64."""
    left = residual(x, atoms, code)
    return float((left**2).sum() / ((x.double() - x.double().mean(0)) ** 2).sum())


def norms(x: torch.Tensor) -> torch.Tensor:
    """(N,) float64."""
    return x.double().norm(dim=1)


def residual(x: torch.Tensor, atoms: torch.Tensor, code: SparseCode) -> torch.Tensor:
    """x - x_hat in float64."""
    exact = SparseCode(code.indices, code.coefficients.double(), code.residual_norm.double())
    return x.double() - exact.decode(atoms.double())


def support(code: SparseCode, row: int) -> list[int]:
    """The atoms of a sample, in the order of their slots."""
    return [index for index in code.indices[row].tolist() if index >= 0]


def fitted(x: numpy.ndarray, chosen: numpy.ndarray, nonnegative: bool) -> numpy.ndarray:
    """Least squares of x (D,) on the rows of chosen (s, D), by other means than the reference's where there are any."""
    if nonnegative:
        scale = numpy.linalg.norm(x) or 1.0
        return nnls(chosen.T, x / scale, maxiter=100 * len(chosen))[0] * scale
    return numpy.linalg.pinv(chosen.T) @ x


@dataclass(frozen=True)
class Replay:
    """What float64 sees at every step of a code's own path, relative to ||x||; NaN after the last pick."""

    best: torch.Tensor
    """(N, k) the largest correlation that could be picked."""
    second: torch.Tensor
    """(N, k) the second largest, which the gap is measured to."""
    picked: torch.Tensor
    """(N, k) the correlation of the atom that was picked."""
    residual: torch.Tensor
    """(N, k + 1) norm of the residual before each step, and after the last."""
    after: torch.Tensor
    """(N,) the largest correlation after the last pick, -inf where no atom is left."""


def replay(x: torch.Tensor, atoms: torch.Tensor, code: SparseCode, method: str, nonnegative: bool) -> Replay:
    """Follow the picks of a code of mp or omp in float64, a sample at a time."""
    (N, k), D = code.indices.shape, atoms.double().numpy()
    best, second, picked = (numpy.full((N, k), numpy.nan) for _ in range(3))
    residual, after = numpy.full((N, k + 1), numpy.nan), numpy.full(N, -numpy.inf)
    for row, original in enumerate(x.double().numpy()):
        norm = numpy.linalg.norm(original) or 1.0
        r, chosen = original / norm, support(code, row)
        for step in range(len(chosen) + 1):
            residual[row, step] = numpy.linalg.norm(r)
            score = D @ r if nonnegative else numpy.abs(D @ r)
            if method == "omp":
                score[chosen[:step]] = -numpy.inf
            if step == len(chosen):
                after[row] = score.max()
                break
            best[row, step], picked[row, step] = score.max(), score[chosen[step]]
            second[row, step] = numpy.partition(score, -2)[-2] if len(score) > 1 else -numpy.inf
            if method == "omp":
                columns = D[chosen[: step + 1]]
                r = original / norm - fitted(original / norm, columns, nonnegative) @ columns
            else:
                r = r - (D[chosen[step]] @ r) * D[chosen[step]]
    return Replay(*(torch.from_numpy(part) for part in (best, second, picked, residual, after)))


def clear(found: Replay) -> torch.Tensor:
    """(N, k) bool, steps up to which the best atom always stood out from the second best, and from rounding."""
    unclear = (found.best - found.second <= within("gap")) | (found.best <= within("gap"))
    return unclear.long().cumsum(1) == 0


def assert_well_formed(code: SparseCode, samples: int, k: int, atoms: int, method: str) -> None:
    """Shapes, dtypes, ranges, -1 with coefficient 0 and only at the end, distinct atoms but for mp."""
    assert code.indices.shape == code.coefficients.shape == (samples, k)
    assert code.residual_norm.shape == (samples,)
    assert code.indices.dtype == torch.int32
    assert code.coefficients.dtype == code.residual_norm.dtype == torch.float32
    picked = code.indices >= 0
    assert ((code.indices >= -1) & (code.indices < atoms)).all()
    assert (picked[:, 1:] <= picked[:, :-1]).all()
    assert (code.coefficients[~picked] == 0).all()
    assert code.coefficients.isfinite().all()
    assert code.residual_norm.isfinite().all()
    if method != "mp":
        assert torch.equal(code.distinct(), picks(code))


def assert_picks_are_best(
    x: torch.Tensor, atoms: torch.Tensor, code: SparseCode, method: str, nonnegative: bool
) -> None:
    """Every pick is float64's where the gap allows, near-optimal elsewhere; samples stop at rounding level alone."""
    found = replay(x, atoms, code, method, nonnegative)
    lost = found.best - found.picked
    allowed = (within("near-optimality") * found.best).clamp(within("rounding of a correlation"), within("gap"))
    judged = found.best > within("rounding level")
    assert not (judged & (lost > allowed)).any(), f"a pick is worse than the best by {lost[judged].max():.1e} ||x||"
    stopped = picks(code) < code.indices.shape[1]
    assert (found.after[stopped] <= within("rounding level")).all()


def assert_samples_keep_their_bits(
    x: torch.Tensor, atoms: torch.Tensor, k: int, sizes: tuple[int, ...], **settings: Any
) -> None:
    """In three batches of each size, and in another order, as in one batch."""
    whole = pursue(x, atoms, k, **settings)
    for size in sizes:
        for start in range(0, min(3 * size, len(x)), size):
            part = slice(start, start + size)
            assert same_bits(pursue(x[part], atoms, k, **settings), rows_of(whole, part))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    assert same_bits(pursue(x[order], atoms, k, **settings), rows_of(whole, order))


def assert_fast_is_nearly_as_good(x: torch.Tensor, atoms: torch.Tensor, k: int, off: float, **settings: Any) -> None:
    """By the variance left unexplained; its residual norms are right but for `off`."""
    exact, fast = (pursue(x, atoms, k, precision=precision, **settings) for precision in ("exact", "fast"))
    assert_well_formed(fast, len(x), k, len(atoms), settings.get("method", "mp"))
    assert fvu(x, atoms, fast) == pytest.approx(fvu(x, atoms, exact), rel=within("FVU fast"))
    assert ((norms(residual(x, atoms, fast)) - fast.residual_norm).abs() / norms(x)).max() <= off
