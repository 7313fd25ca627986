"""The log probe: does a model hold numbers on a log scale, in a line or on a circle, and does it use it?"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from interpkern.errors import DTypeError
from interpkern.files import as_path, provenance
from interpkern.machine import cpu_model, one_thread
from interpkern.probing.circle_layers import SENSITIVITY, CircleLayers, circles_by_layer
from interpkern.probing.circle_test import NULLS
from interpkern.probing.collect import number_activations
from interpkern.probing.confounds import find_confounds
from interpkern.probing.directions import Directions, directions
from interpkern.probing.log_verdicts import (
    Verdict,
    circle_verdict,
    magnitude_verdict,
    scale_verdict,
    use_verdict,
)
from interpkern.probing.magnitude import Magnitude, magnitude_test
from interpkern.probing.multiplication import TEMPLATE, Multiplication, multiplication_study
from interpkern.probing.number_sets import NumberActivations
from interpkern.progress import Progress, reporting
from interpkern.random import check_seed
from interpkern.validation import choice, integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from interpkern.report import Section

NUMBERS = range(1, 361)
CAUSAL = 20
"""Steps that the causal part is worth on a bar."""
PAGE = "log_probe.html"


@dataclass(frozen=True, eq=False)
class LogProbe:
    """Everything one log probe found; `verdicts` is the summary, `save` writes the page."""

    activations: NumberActivations
    """What was analysed."""
    magnitude: Magnitude
    directions: Mapping[int, Directions]
    """By layer."""
    circles: CircleLayers
    multiplication: Multiplication | None
    """The causal part; None where there was no model, or it could not be done."""
    why_not_used: str
    """Why there is no causal part."""
    confounds: Mapping[str, tuple[int, ...]]
    """What makes the data hard to read, with the layers that it holds for."""
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def layers(self) -> tuple[int, ...]:
        """Those that were analysed."""
        return self.activations.layers

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The four questions, answered."""
        return (
            magnitude_verdict(self.magnitude),
            scale_verdict(self.magnitude),
            circle_verdict(self.circles),
            use_verdict(self.multiplication, self.why_not_used),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """All that calls for care, without repeats."""
        found = dict.fromkeys(self.confounds)
        for test in self.circles.tests.values():
            found |= dict.fromkeys(test.warnings)
        for result in self.multiplication.ablations.results if self.multiplication else ():
            found |= {f"ablation at layer {result.layer}: {text}": None for text in result.warnings}
        return tuple(found)

    def to_pandas(self) -> pandas.DataFrame:
        """The verdict table: question, answer, effect, p_value, null, detectable."""
        return pandas.DataFrame([vars(verdict) for verdict in self.verdicts])

    def layers_to_pandas(self) -> pandas.DataFrame:
        """One row a layer: its best magnitude component and exponent, and its strongest circle."""
        return self.magnitude.to_pandas().merge(self.circles.to_pandas(), on="layer")

    def directions_to_pandas(self) -> pandas.DataFrame:
        """One row a layer, component and feature: r with its interval."""
        return _by_layer({layer: found.to_pandas() for layer, found in self.directions.items()})

    def decoded_to_pandas(self) -> pandas.DataFrame:
        """One row a layer, feature and kind of fold: R^2 of the feature on numbers left out."""
        return _by_layer({layer: found.decoded for layer, found in self.directions.items()})

    def scans_to_pandas(self) -> pandas.DataFrame:
        """One row a layer and frequency: power, rank, window, and the band of the null."""
        tables = {}
        for layer, test in self.circles.tests.items():
            low, high = test.null_band
            tables[layer] = test.scan.to_pandas().assign(null_low=low.numpy(), null_high=high.numpy())
        return _by_layer(tables)

    def plot(self) -> "Figure":
        """Draw the numbers along the first components, coloured by ln n, and the magnitude component against n."""
        from interpkern.probing.log_probe_plots import plot_components

        return plot_components(self)

    def section(self) -> "Section":
        """What it puts on a page, with pictures, tables and the activations as files."""
        from interpkern.probing.log_probe_report import log_probe_section

        return log_probe_section(self)

    def save(self, directory: str | Path) -> list[Path]:
        """Write the page, pictures (PNG), tables (parquet), a summary (JSON) and the activations for another analysis.

        Returns:
            The files, the page first.
        """
        from interpkern.report import save_page

        return save_page(
            f"Log probe of {self.activations.name}", [self.section()], as_path("directory", directory), PAGE
        )

    def __str__(self) -> str:
        return "\n".join(map(str, self.verdicts))


def log_probe(
    source: Any,
    *,
    numbers: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    prefix: str = "The number ",
    single_token: bool = False,
    components: int = 20,
    null: str = "coloured",
    surrogates: int = 199,
    sensitivity: str = "strongest",
    bridge: Any = None,
    template: str = TEMPLATE,
    operands: Any = range(1, 10),
    multiplication_layers: Sequence[int] | None = None,
    tested_prompts: int = 24,
    controls: int = 99,
    batch_size: int = 64,
    model_name: str | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> LogProbe:
    """Answer four questions: a magnitude direction? on a log scale? a circle in ln n? used in multiplication?

    Each answer comes with its effect size, a p-value under a null that holds for that question, over all components,
    frequencies and layers that were looked at, and the smallest effect that would have been found.

    Args:
        source: NumberActivations; a file of them, or of arrays (`NumberActivations.load`); or a transformer_lens
            TransformerBridge, from which they are collected and with which the causal part is run.
        numbers: of a file that brings none, or to collect; by default 1 to 360.
        layers: to analyse; by default all there are.
        prefix: text in front of each number, where a bridge is run; a space is put behind a last letter.
        single_token: leave out the numbers that the tokenizer splits, where a bridge is run.
        components: principal components of each layer that are looked at.
        null: of the circle test, coloured or permutation.
        surrogates: draws from each null.
        sensitivity: where circles are planted to say how small a one would have been found: at the layer where a circle
            stands out most (strongest), at all, or at none. It takes most of the time without a model.
        bridge: a model for the causal part, where the source is activations.
        template: of the products, with {a} and {b}.
        operands: of the products, each one token.
        multiplication_layers: where directions are ablated; by default four.
        tested_prompts: products that are tested, at most.
        controls: random directions that each ablation is ranked among.
        batch_size: prompts in one forward pass.
        model_name: of a bridge, for the page; by default its own.
        seed: of all that is drawn.
        progress: a function of (done, total) steps; True or False for a bar or none; by default a bar on a terminal.

    Returns:
        LogProbe: `verdicts`, `warnings`, tables, `save(directory)`.

    Raises:
        ShapeError, DTypeError, ValueError: an argument or file that does not fit; it is named.

    Example:
        >>> found = log_probe(interpkern.data.numbers("minilm"), layers=(3,), sensitivity="none")
        >>> print(found.verdicts[2].answer)
        no evidence
    """
    _check(seed, null, sensitivity, {"components": components, "surrogates": surrogates, "controls": controls})
    start = time.perf_counter()
    if hasattr(source, "run_with_cache"):
        bridge = source
        found = number_activations(
            source,
            NUMBERS if numbers is None else numbers,
            layers=layers,
            prefix=prefix,
            single_token=single_token,
            batch_size=batch_size,
            model_name=model_name,
            progress=False if callable(progress) else progress,
        )
    else:
        found = _opened(source, numbers, layers)
    products = {
        "operands": operands,
        "template": template,
        "layers": multiplication_layers,
        "tested_prompts": tested_prompts,
        "controls": controls,
        "batch_size": batch_size,
        "seed": seed,
    }
    planted = {"strongest": 1, "all": len(found.layers), "none": 0}[sensitivity]
    with reporting(progress, "log probe", " steps") as report:
        step = _Steps(report, 2 * len(found.layers) + planted + 1 + CAUSAL)
        with one_thread():
            confounds = _confounds(found)
            size = magnitude_test(
                found.activations, found.numbers, components=components, surrogates=surrogates, seed=seed
            )
            step()
            by_layer = _directions(found, components, seed, step)
            circles = circles_by_layer(
                found.activations,
                found.numbers,
                null=null,
                components=components,
                surrogates=surrogates,
                sensitivity=sensitivity,
                seed=seed,
                step=step,
            )
        used, why_not = _multiplication(bridge, products, step)
    settings = {"numbers": len(found), "null": null, "controls": controls, "template": template}
    settings |= {"components": components, "surrogates": surrogates}
    about = {"cpu": cpu_model(), "seed": seed, "seconds": round(time.perf_counter() - start, 1)}
    return LogProbe(found, size, by_layer, circles, used, why_not, confounds, settings, provenance() | about)


def _check(seed: Any, null: Any, sensitivity: Any, counts: Mapping[str, Any]) -> None:
    """Refuse now what would be refused after minutes."""
    check_seed(seed)
    choice("null", null, NULLS)
    choice("sensitivity", sensitivity, SENSITIVITY)
    for name, count in counts.items():
        integer(name, count, 1)


class _Steps:
    """Counts what is done, for a progress function that may be None."""

    def __init__(self, report: Progress | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def __call__(self) -> None:
        self._done += 1
        if self._report:
            self._report(self._done, self._total)

    def share(self, steps: int) -> Progress:
        """A progress function of a part that is worth so many steps."""
        before, told = self._done, 0

        def report(done: int, total: int) -> None:
            nonlocal told
            while told < steps * done // total:
                self()
                told = self._done - before

        return report


def _opened(source: Any, numbers: Any, layers: Sequence[int] | None) -> NumberActivations:
    if isinstance(source, (str, Path)):
        source = NumberActivations.load(source, numbers=numbers)
    elif not isinstance(source, NumberActivations):
        raise DTypeError(
            f"source: expected NumberActivations, a file or a transformer_lens TransformerBridge, got"
            f" {type(source).__name__}; of arrays make NumberActivations(numbers, {{layer: array}})"
        )
    elif numbers is not None:
        raise ValueError(f"numbers: {source.name} brings its own, {source.span}; leave numbers out")
    return source if layers is None else source.at(tuple(layers))


def _confounds(found: NumberActivations) -> dict[str, tuple[int, ...]]:
    """Each sentence with the layers that it holds for."""
    where: dict[str, list[int]] = {}
    for layer in found.layers:
        for sentence in find_confounds(
            found[layer], found.numbers, positions=found.positions, token_counts=found.token_counts
        ):
            where.setdefault(sentence, []).append(layer)
    return {sentence: tuple(layers) for sentence, layers in where.items()}


def _directions(
    found: NumberActivations, components: int, seed: int, step: Callable[[], None]
) -> dict[int, Directions]:
    by_layer = {}
    for layer in found.layers:
        by_layer[layer] = directions(found[layer], found.numbers, components=components, seed=seed)
        step()
    return by_layer


def _multiplication(bridge: Any, settings: Mapping[str, Any], step: _Steps) -> tuple[Multiplication | None, str]:
    """The causal part, or why there is none."""
    report = step.share(CAUSAL)
    found, why_not = None, "activations alone can't show use; give the model too"
    if bridge is not None:
        try:
            found, why_not = multiplication_study(bridge, progress=report, **settings), ""
        except (ValueError, DTypeError) as error:
            why_not = str(error)
    report(1, 1)
    return found, why_not


def _by_layer(tables: Mapping[int, pandas.DataFrame]) -> pandas.DataFrame:
    """One table, with the layer in front."""
    rows = [table.assign(layer=layer) for layer, table in tables.items()]
    joined = pandas.concat(rows, ignore_index=True)
    return joined[["layer", *(name for name in joined.columns if name != "layer")]]
