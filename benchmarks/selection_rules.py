"""Rules that choose which activations become atoms, for `itda_quality.py`; each returns (M,) row numbers."""

from collections.abc import Callable
from functools import partial

import numpy
import torch

from interpkern.itda import ITDA
from interpkern.itda.rows import Rows
from interpkern.itda.selection import refine, use
from interpkern.itda.variants import random_atoms, updated_atoms
from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit import matching_pursuit
from interpkern.ops.sparse_code import SparseCode

SAMPLE = 12_288
ROUNDS, SWAP = 6, 0.3


class Problem:
    """Rows to choose from, and the default dictionary of them, whose row numbers are its prompt ids."""

    def __init__(self, rows: Rows, itda: ITDA, seed: int, threads: int) -> None:
        self.rows, self.itda, self.seed, self.threads = rows, itda, seed, threads
        self.centred = rows.values - itda.mean
        self.unit = torch.nn.functional.normalize(self.centred, dim=1)
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def size(self) -> int:
        """M."""
        return len(self.itda)

    def sample(self, count: int) -> torch.Tensor:
        """Row numbers drawn without weights."""
        return torch.randperm(len(self.centred), generator=self.generator)[:count]

    def code(self, at: torch.Tensor, atoms: torch.Tensor) -> SparseCode:
        """OMP of some rows over some atoms."""
        gram = Gram(atoms, threads=self.threads)
        k = self.itda.settings.k
        return matching_pursuit(
            self.centred[at], gram.atoms, k, method="omp", gram=gram, threads=self.threads, progress=False
        )


def greedy(problem: Problem) -> torch.Tensor:
    """The default: a row becomes an atom when the dictionary so far leaves more of it than a threshold."""
    return problem.itda.labels[:, 0]


def uniform(problem: Problem) -> torch.Tensor:
    """Rows at random."""
    return problem.sample(problem.size)


def farthest(problem: Problem) -> torch.Tensor:
    """Diversity: always the row whose largest |cosine| with the atoms so far is smallest."""
    pool = problem.sample(SAMPLE)
    unit = problem.unit[pool]
    nearest = torch.zeros(len(pool))
    chosen = [0]
    for _ in range(problem.size - 1):
        nearest = torch.maximum(nearest, (unit @ unit[chosen[-1]]).abs())
        chosen.append(int(nearest.argmin()))
    return pool[chosen]


def residual_sampling(problem: Problem, power: float) -> torch.Tensor:
    """Grow by eighths, by rows drawn with weights error ** power; power 1 is the D^2 sampling of k-means++."""
    chosen = problem.sample(problem.size // 8)
    while len(chosen) < problem.size:
        at = problem.sample(SAMPLE)
        code = problem.code(at, problem.unit[chosen])
        count = min(problem.size // 8, problem.size - len(chosen))
        chosen = torch.cat([chosen, at[_drawn(problem, code, torch.isin(at, chosen), power, count)]])
    return chosen


def pruning(problem: Problem) -> torch.Tensor:
    """Use: of twice as many rows at random, keep the half that the codes of the rows need most."""
    chosen = problem.sample(2 * problem.size)
    atoms = problem.unit[chosen]
    used = use(problem.code(problem.sample(SAMPLE), atoms), atoms)
    return chosen[torch.from_numpy(numpy.argsort(-used)[: problem.size].copy())]


def snapping(problem: Problem, updates: int) -> torch.Tensor:
    """k-medoids-like: learn atoms by some updates of MOD, then take the row nearest to each by |cosine|."""
    learned = problem.itda
    for _ in range(updates):
        learned = updated_atoms(learned, problem.rows)
    taken: dict[int, None] = {}
    for part in learned.atoms.split(512):
        for order in (part @ problem.unit.mT).abs().topk(16, dim=1).indices.tolist():
            taken[next((row for row in order if row not in taken), order[0])] = None
    spare = (row for row in greedy(problem).tolist() if row not in taken)
    return torch.tensor([*taken, *(next(spare) for _ in range(problem.size - len(taken)))])


def swapping(problem: Problem, power: float, own: bool) -> torch.Tensor:
    """Swap-out: the atoms of least use give way to rows of large error; `own` counts the rows that atoms came from."""
    chosen = greedy(problem)
    for done in range(ROUNDS):
        atoms = problem.unit[chosen]
        at = problem.sample(SAMPLE)
        if not own:
            at = at[~torch.isin(at, chosen)]
        code = problem.code(at, atoms)
        staying = problem.size - int(problem.size * SWAP * (1 - 0.9 * done / (ROUNDS - 1)))
        kept = torch.from_numpy(numpy.argsort(-use(code, atoms))[:staying].copy())
        count = problem.size - staying
        new = _drawn(problem, code, torch.isin(at, chosen), power, count)
        chosen = torch.cat([chosen[kept], at[new]])
    return chosen


def _drawn(problem: Problem, code: SparseCode, barred: torch.Tensor, power: float, count: int) -> torch.Tensor:
    weights = code.residual_norm.double() ** (2 * power)
    weights[barred] = 0
    return torch.multinomial(weights, count, generator=problem.generator)


def refined(problem: Problem, rounds: int = ROUNDS) -> torch.Tensor:
    """`interpkern.itda.refine` from the default."""
    found = refine(problem.itda, problem.rows.values, problem.rows.labels, rounds=rounds, seed=problem.seed)
    return found.labels[:, 0]


def refined_from_random(problem: Problem) -> torch.Tensor:
    """The same from rows at random."""
    start = random_atoms(problem.itda, problem.rows, problem.seed, "omp")
    return refine(start, problem.rows.values, problem.rows.labels, rounds=ROUNDS, seed=problem.seed).labels[:, 0]


RULES: dict[str, Callable[[Problem], torch.Tensor]] = {
    "greedy by threshold (the default)": greedy,
    "uniformly random": uniform,
    "farthest point": farthest,
    "snap 1 MOD update to the nearest rows": partial(snapping, updates=1),
    "snap 3 MOD updates to the nearest rows": partial(snapping, updates=3),
    "prune 2M random rows by use": pruning,
    "error-weighted growth, power 1 (k-means++)": partial(residual_sampling, power=1.0),
    "error-weighted growth, power 2": partial(residual_sampling, power=2.0),
    "swap-out, power 1, own rows counted": partial(swapping, power=1.0, own=True),
    "swap-out, power 1": partial(swapping, power=1.0, own=False),
    "swap-out, power 2": partial(swapping, power=2.0, own=False),
    "swap-out, refilled by gain (refine)": refined,
    "refine from random rows": refined_from_random,
}
CORE = ("greedy by threshold (the default)", "uniformly random", "swap-out, refilled by gain (refine)")
"""Those that are judged on further splits."""
