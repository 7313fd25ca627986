"""Is there a circle in a coordinate of the numbers? A p-value with what it takes to believe it."""

import json
import math
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.errors import DTypeError
from interpkern.files import as_path, provenance, write_atomically
from interpkern.probing.duplicates import duplicate_sentences
from interpkern.probing.explanations import best_coordinate, explanations, null_warnings
from interpkern.probing.extrapolation import Extrapolation, extrapolate
from interpkern.probing.nulls import (
    ColouredNull,
    Found,
    against_coloured,
    against_permutations,
    coloured_null,
    permutation_blocks,
)
from interpkern.probing.numbers import Coordinate, checked
from interpkern.probing.residuals import residuals
from interpkern.probing.sensitivity import ALPHA, Setting, minimum_detectable
from interpkern.probing.spectrum import Scan, default_components, frequency_grid, scan_of
from interpkern.probing.verdicts import verdict
from interpkern.progress import Progress, reporting
from interpkern.validation import boolean, choice, integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NULLS = ("coloured", "permutation")
SCHEMA = 1
MANY = 0.5
"""Of the rows: when as many are another's, a test on them is of what numbers share."""


@dataclass(frozen=True, eq=False)
class CircleTest:
    """A test for a circle, with the smallest one that it would have seen."""

    p_value: float
    """(1 + #{surrogates with at least the observed statistic}) / (surrogates + 1), over all frequencies."""
    period: float
    """Where the statistic is largest, in units of the coordinate: nats for "log"."""
    power: float
    """Share of the variance that the nuisance leaves which a circle of this period explains."""
    minimum_detectable: dict[float, float]
    """{period: smallest variance, over that of the activations, that 80 % of tests find; inf where none up to 1}."""
    best_lambda: float
    """The (n^lambda - 1) / lambda in which a circle explains most: 0 for ln n, 1 for n."""
    lambdas: dict[float, float]
    """{lambda: share of the variance at its best period}, whitened by the coloured null where that is the null."""
    extrapolation: Extrapolation
    """Whether the circle predicts octaves that it was not fitted on."""
    scan: Scan
    null_band: torch.Tensor
    """(2, F) float64: 95 % of the surrogates' power at each frequency."""
    statistics: torch.Tensor
    """(P,) float64, of the surrogates."""
    statistic: float
    """The observed one: the largest power for "permutation"; for "coloured" the largest ln(power / background), in
    standard deviations of the surrogates at that frequency, over the root mean square of other periods if above 1."""
    null: str
    surrogates: int
    seed: int
    verdict: str
    warnings: tuple[str, ...]

    @property
    def coordinate(self) -> Coordinate:
        """As it was asked for."""
        return self.scan.coordinate

    @property
    def ratio(self) -> float:
        """e^period: what a number is multiplied by in one turn, where the coordinate is "log"."""
        return math.exp(min(self.period, 700.0))

    def to_pandas(self) -> pandas.DataFrame:
        """One row."""
        seen = {f"detectable at {period:.3g}": share for period, share in self.minimum_detectable.items()}
        columns = {name: getattr(self, name) for name in ("coordinate", "null", "p_value", "period", "power")}
        columns |= {"best_lambda": self.best_lambda, "extrapolation": self.extrapolation.gain, **seen}
        return pandas.DataFrame([{**columns, "verdict": self.verdict, "warnings": "; ".join(self.warnings)}])

    def plot(self) -> "Figure":
        """Draw the power with the band of the null, and the spectral window."""
        from interpkern.probing.spectrum_plots import plot_test

        return plot_test(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write all figures as JSON; inf is written as null."""
        record = json.loads(self.to_pandas().to_json(orient="records"))[0]
        record["minimum_detectable"] = [
            {"period": period, "share": share if math.isfinite(share) else None}
            for period, share in self.minimum_detectable.items()
        ]
        record["lambdas"] = [{"lambda": power, "share": share} for power, share in self.lambdas.items()]
        record["extrapolation"] = self.extrapolation.to_pandas().to_dict("records")
        record["scan"] = self.scan.to_pandas().to_dict("list") | {"null_band": self.null_band.tolist()}
        record |= {"surrogates": self.surrogates, "seed": self.seed, "warnings": list(self.warnings)}
        content = {"kind": "interpkern.circle_test", "schema": SCHEMA, **record, "provenance": provenance()}
        write_atomically(as_path("path", path), json.dumps(content, indent=1).encode())


def circle_test(
    acts: Any,
    numbers: Any,
    coordinate: Coordinate = "log",
    null: str = "coloured",
    surrogates: int = 199,
    seed: int = 0,
    *,
    nuisance: Any = "default",
    components: int = 20,
    frequencies: Any = None,
    sensitivity: bool = True,
    progress: Progress | bool | None = None,
    device: str | torch.device | None = None,
) -> CircleTest:
    """Test whether activations hold a circle in a coordinate of the numbers, over all periods at once.

    The coloured null draws activations that are as smooth in n and ln n and as digit-like as these, without a circle.
    Its sizes are fitted by restricted maximum likelihood; the statistic is the power of a period, through the null's
    whitening of numbers and channels, over the power that a background fitted without that period's pair predicts:
    standardised over the surrogates, largest over the periods, and divided by the root mean square at other periods
    with that circle regressed out, where it is above 1. Surrogates go through all of it. Label permutation tests only
    whether there is any structure.

    Shapes:
        acts (N, d) floating point, torch or NumPy, N >= 8; numbers (N,) positive, each once; nuisance (N, q).

    Args:
        acts, numbers, coordinate, nuisance, components, frequencies: as in `scan`.
        null: "coloured", or "permutation", which can't support the claim of a circle.
        surrogates: draws of the null; p is at least 1 / (surrogates + 1).
        seed: of the draws.
        sensitivity: also plant circles, to say how small a circle would have been seen: seconds more.
        progress: a function of (done, total), True or False for a bar or none; by default a bar on a terminal.
        device: where the null pass runs; the CPU by default. Observed statistics are float64 on the CPU.

    Returns:
        CircleTest: p_value in (0, 1]; period in units of the coordinate; shares of variance.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Ours; the permutation null is that of the addition paper (Kantamneni and Tegmark 2025) done without its faults.

    Example:
        >>> numbers = torch.arange(1, 361)
        >>> angles = 2 * torch.pi * numbers.log() / 0.5
        >>> acts = torch.randn(360, 10) + torch.stack([angles.cos(), angles.sin()], 1) @ torch.randn(2, 10)
        >>> found = circle_test(acts, numbers, surrogates=99, sensitivity=False)
        >>> found.p_value, round(found.period, 1)
        (0.01, 0.5)
    """
    choice("null", null, NULLS)
    surrogates, seed = integer("surrogates", surrogates, 1), integer("seed", seed, 0, (1 << 62) - 1)
    sensitivity, where = boolean("sensitivity", sensitivity), checked_device(device)
    data = checked(acts, numbers)
    left = residuals(data, coordinate, default_components(components, data.acts.shape), nuisance)
    grid = frequency_grid(frequencies, left.positions, coordinate).sort().values
    scan = scan_of(left, grid, coordinate)
    setting = Setting(data, left, grid, surrogates, seed, where)
    with reporting(progress, "circle_test: nulls", " surrogates") as report:
        found, model = _among_null(setting, scan, null, report)
    detectable: dict[float, float] = {}
    if sensitivity:
        with reporting(progress, "circle_test: sensitivity", " tests") as report:
            detectable = minimum_detectable(setting, coordinate, _permutation_threshold(setting, found, null), report)
    return _concluded(setting, scan, found, model, null, detectable)


def checked_device(device: str | torch.device | None) -> torch.device:
    """A device that PyTorch knows and that is there."""
    try:
        where = torch.device("cpu" if device is None else device)
        torch.empty(1, device=where)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise DTypeError(
            f"device: expected a device of PyTorch, say 'cpu' or 'cuda', got {device!r} ({error})"
        ) from None
    return where


def _among_null(setting: Setting, scan: Scan, null: str, report: Progress | None) -> tuple[Found, ColouredNull | None]:
    left, grid, given = setting.left, setting.frequencies, (setting.surrogates, setting.seed)
    if null == "permutation":
        found = against_permutations(left, scan.power, grid, *given, device=setting.device, report=report)
        return found, None
    model = coloured_null(left, setting.data.numbers, grid, *given, device=setting.device, report=report)
    return against_coloured(model, left, grid), model


def _permutation_threshold(setting: Setting, found: Found, null: str) -> tuple[list, float] | None:
    """What the largest power must exceed for p <= ALPHA."""
    if null != "permutation":
        return None
    allowed = math.floor(ALPHA * (len(found.null) + 1)) - 1
    ranked = found.null.sort(descending=True).values
    threshold = float(ranked[allowed]) if 0 <= allowed < len(ranked) else math.inf
    return permutation_blocks(setting.left, setting.frequencies, setting.device), threshold


def _concluded(
    setting: Setting,
    scan: Scan,
    found: Found,
    model: ColouredNull | None,
    null: str,
    detectable: dict[float, float],
) -> CircleTest:
    data, left = setting.data, setting.left
    frequency = float(setting.frequencies[found.place])
    lambdas = best_coordinate(left, data.numbers, scan, model)
    best = max(lambdas, key=lambdas.__getitem__)
    power = float(scan.power[found.place])
    explained = explanations(data, left, scan, frequency, power, best, found.p_value)
    test = CircleTest(
        p_value=found.p_value,
        period=1 / frequency,
        power=power,
        minimum_detectable=detectable,
        best_lambda=best,
        lambdas=lambdas,
        extrapolation=extrapolate(left, left.components, data.numbers, frequency),
        scan=scan,
        null_band=found.band,
        statistics=found.null,
        statistic=found.statistic,
        null=null,
        surrogates=setting.surrogates,
        seed=setting.seed,
        verdict="",
        warnings=(*duplicate_sentences(data, MANY), *scan.warnings, *null_warnings(null), *explained),
    )
    return replace(test, verdict=verdict(test))
