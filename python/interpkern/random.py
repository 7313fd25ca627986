"""Counter-based random numbers keyed by (seed, model, use): a model's draws depend on nothing else in its batch."""

from typing import Any

import numpy
from numpy.typing import NDArray
from scipy.special import ndtri

from interpkern.validation import integer

USES = ("tables", "E1", "E2", "W", "c", "r", "c_out")
"""What a stream is for; its place here is its number, so append and never reorder."""
MAX_SEED = (1 << 64) - 1
MAX_MODELS = 1 << 48


def check_seed(seed: Any) -> int:
    """`seed` as an int that a key can hold."""
    return integer("seed", seed, 0, MAX_SEED)


def words(seed: int, model: int, use: str, count: int) -> NDArray[numpy.uint64]:
    """The first `count` words of 64 random bits in the stream (seed, model, use).

    Philox's 128-bit key is seed (64 bits), use (16), model (48): no two streams share one. Only NumPy's raw words
    are used, because their values are guaranteed from version to version and those of its distributions are not.

    Source:
        Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox 4x64-10).
    """
    key = numpy.array([seed, USES.index(use) << 48 | model], dtype=numpy.uint64)
    return numpy.random.Philox(key=key).random_raw(count)


def uniform(seed: int, model: int, use: str, count: int) -> NDArray[numpy.float64]:
    """`count` numbers in the open interval (0, 1), on the midpoints of 2^52 equal cells."""
    cells = (words(seed, model, use, count) >> numpy.uint64(12)).astype(numpy.float64)
    return (cells + 0.5) * 2.0**-52


def normal(seed: int, model: int, use: str, count: int) -> NDArray[numpy.float64]:
    """`count` standard normal numbers, by inversion."""
    return numpy.asarray(ndtri(uniform(seed, model, use, count)), dtype=numpy.float64)
