"""The discrete Fourier spectrum of activations over consecutive numbers."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.probing.fits import rows_of_numbers
from interpkern.probing.numbers import refuse_constant
from interpkern.probing.saved import save_table
from interpkern.validation import choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOWS = ("none", "hann", "hamming", "blackman")


@dataclass(frozen=True, eq=False)
class Fourier:
    """Power of activations by frequency of the number."""

    frequencies: torch.Tensor
    """(F,) float64 cycles a unit of the number, without zero."""
    power: torch.Tensor
    """(F, D) float64 squared modulus, in the squared unit of the activations."""
    share: torch.Tensor
    """(F,) float64 share of all power, over all channels; the conjugate of each frequency is counted with it."""
    window: str
    """What the rows were weighted with."""

    @property
    def periods(self) -> torch.Tensor:
        """(F,) float64 in the unit of the number."""
        return 1 / self.frequencies

    def to_pandas(self) -> pandas.DataFrame:
        """One row a frequency: frequency, period, share of power."""
        columns = {"frequency": self.frequencies, "period": self.periods, "share": self.share}
        return pandas.DataFrame({name: values.numpy() for name, values in columns.items()})

    def plot(self) -> "Figure":
        """Draw the share of power against the frequency, the highest peaks named by their period."""
        from interpkern.probing.helix_plots import plot_fourier

        return plot_fourier(self)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the table of frequencies as parquet."""
        return save_table(path, self.to_pandas())


def fourier(acts: Any, numbers: Any, *, window: str = "none") -> Fourier:
    """Take the discrete Fourier spectrum of activations over evenly spaced numbers, with their mean taken off.

    Shapes:
        acts: (N, D) float; numbers: (N,), evenly spaced, in any order, each once.

    Args:
        window: none, hann, hamming or blackman: the weight of the rows. The mean that is taken off is weighted too, so
            that no power leaks from frequency zero.

    Returns:
        Fourier with floor(N / 2) frequencies.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument; numbers that are not evenly spaced.

    Source:
        Kantamneni and Tegmark 2025, arXiv 2502.00873, section 4.1; their code computes a window that it does not use
        and keeps the mean.

    Example:
        >>> n = torch.arange(100.0)
        >>> found = fourier(torch.cos(2 * torch.pi * n / 10)[:, None], n)
        >>> float(found.periods[found.share.argmax()])
        10.0
    """
    rows, values = rows_of_numbers(acts, numbers)
    refuse_constant(rows)
    window = choice("window", window, WINDOWS)
    order = values.argsort()
    rows, values = rows[order], values[order]
    steps = values.diff()
    if len(values) < 4 or not bool((steps > 0).all()) or not torch.allclose(steps, steps[0], rtol=1e-9, atol=0.0):
        raise ValueError(
            "numbers: expected at least 4 evenly spaced numbers, each once, for a Fourier transform; use scan() for"
            " others, average the rows of a number"
        )
    weights = _weights(window, len(rows))[:, None]
    centred = weights * (rows - (weights * rows).sum(0) / weights.sum())
    frequencies = torch.fft.rfftfreq(len(rows), float(steps[0]), dtype=torch.float64)[1:]
    power = torch.fft.rfft(centred, dim=0)[1:].abs().square()
    both = 2 * power.sum(1)
    if len(rows) % 2 == 0:
        both[-1] /= 2  # half a cycle a step is its own conjugate
    return Fourier(frequencies, power, both / both.sum(), window)


def _weights(window: str, rows: int) -> torch.Tensor:
    if window == "none":
        return torch.ones(rows, dtype=torch.float64)
    make = {"hann": torch.hann_window, "hamming": torch.hamming_window, "blackman": torch.blackman_window}[window]
    return make(rows, periodic=True, dtype=torch.float64)
