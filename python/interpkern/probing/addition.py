"""The analysis of "Language Models Use Trigonometry to Do Addition" on any model with one token an operand."""

from collections.abc import Sequence
from typing import Any

import pandas
import torch

from interpkern.activations.bridges import evaluating
from interpkern.errors import DTypeError
from interpkern.probing.addition_design import Design, make_design
from interpkern.probing.addition_patches import PatchSettings, operand_means, patch_site, variables
from interpkern.probing.addition_prompts import Arithmetic, Encode
from interpkern.probing.addition_result import AdditionStudy, Place
from interpkern.probing.baseline import Baseline, filled_up
from interpkern.probing.bases import PERIODS, check_periods, helix_basis
from interpkern.probing.basis_comparison import BasisComparison, compare_bases
from interpkern.probing.bridges import checked_bridge, checked_layer, device_of
from interpkern.probing.fits import enough_rows
from interpkern.probing.fourier import Fourier, fourier
from interpkern.probing.helix import HelixFit, fit_helix
from interpkern.probing.layer_run import LayerRun
from interpkern.probing.neurons import NeuronFits, fit_neurons
from interpkern.probing.path_patching import ComponentEffects, component_effects
from interpkern.progress import Progress, reporting
from interpkern.validation import boolean, choice, integer, number

SITES = ("a", "b", "last")
SINK = 5.0
"""Position 0 is called an attention sink where its norm is so many times that of the others."""


def addition_study(
    bridge: Any,
    *,
    numbers: Any = range(100),
    template: str = "{prefix}{a}{operator}{b}=",
    operator: str = "+",
    prefix: str = "",
    layers: Sequence[int] | None = None,
    sites: Sequence[str] = ("a", "last"),
    periods: Sequence[float] = PERIODS,
    components: int = 100,
    prompts_per_number: int = 5,
    test_prompts: int = 32,
    controls: int = 99,
    held_out: float = 0.2,
    path_patching: bool = True,
    neuron_layers: Sequence[int] | None = None,
    batch_size: int = 64,
    seed: int = 0,
    encode: Encode | None = None,
    progress: Progress | bool | None = None,
) -> AdditionStudy:
    """Ask whether a model holds operands as helices and uses them: the addition paper's analysis, its faults mended.

    Fits see other prompts than tests, and a part of the operands not at all: these are the counterfactual operands of
    the tests, as the activation of an operand that stands in front does not depend on the rest of the prompt.

    Args:
        bridge: a transformer_lens TransformerBridge (3.9 to 4.x).
        numbers: the operands, integers >= 0, each one token.
        template: text with {a} and {b}, and {prefix} and {operator} where they belong.
        operator: "+", "-" or "*".
        prefix: what stands in front; an instruction or solved examples, as the model needs them.
        layers: whose entering residual is fitted and patched; by default all.
        sites: where: at operand a, at operand b, at the last position.
        periods: of the helix, in the unit of the numbers.
        components: at most this many principal components are fitted.
        prompts_per_number: prompts to fit on, for each operand on each side.
        test_prompts: prompts to patch.
        controls: fits of shuffled activations that the helix is ranked among, at least 99.
        held_out: share of the operands that no fit sees, in (0, 1).
        path_patching: whether heads and MLPs are patched.
        neuron_layers: layers whose MLP neurons are fitted; by default the one whose MLP has the largest effect.
        batch_size: rows in one forward pass.
        seed: of all that is drawn.
        encode: gives the token ids of a text, where the bridge has no tokenizer.
        progress: a function of (done, total) steps; True or False for a bar or none; by default a bar on a terminal.

    Returns:
        AdditionStudy; `to_pandas()` has the patches.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument: operands that are more than one token, too few
        numbers for the periods, answers that are more than one token.

    Source:
        Kantamneni and Tegmark 2025, "Language Models Use Trigonometry to Do Addition", arXiv 2502.00873.

    Example:
        >>> study = addition_study(bridge, numbers=range(100), layers=[0, 8, 16])  # doctest: +SKIP
        >>> study.to_pandas().query("site == 'a'").pivot(index="layer", columns="method", values="share_of_full")
        ... # doctest: +SKIP
    """
    checked_bridge("bridge", bridge)
    chosen = _sites(sites)
    where = list(range(len(bridge.blocks))) if layers is None else _layers(bridge, layers)
    settings = PatchSettings(
        periods=check_periods(periods),
        components=integer("components", components, 1),
        controls=integer("controls", controls, 99),
        seed=integer("seed", seed, 0, 2**62),
    )
    arithmetic = Arithmetic(bridge, numbers, template, operator=operator, prefix=prefix, encode=encode)
    replaced = {_replaced(site) for site in chosen} | ({"a"} if boolean("path_patching", path_patching) else set())
    design = make_design(
        arithmetic,
        replaced,
        per_number=integer("prompts_per_number", prompts_per_number, 1, len(arithmetic.numbers)),
        tested=integer("test_prompts", test_prompts, 1),
        share=number("held_out", held_out, 0.0, below=1.0),
        seed=settings.seed,
    )
    _enough_numbers(design, settings.periods)
    study = _Study(bridge, design, chosen, where, settings, integer("batch_size", batch_size, 1))
    with reporting(progress, "addition", "step") as report:
        return study.run(report, path_patching, neuron_layers)


class _Study:
    """One study while it runs."""

    def __init__(
        self,
        bridge: Any,
        design: Design,
        sites: tuple[str, ...],
        layers: list[int],
        settings: PatchSettings,
        batch_size: int,
    ) -> None:
        self.bridge, self.design, self.sites, self.layers = bridge, design, sites, layers
        self.settings, self.batch_size = settings, batch_size
        self.positions = design.arithmetic.positions
        self.warnings: list[str] = []
        self.spectra: dict[Place, Fourier] = {}
        self.helices: dict[Place, HelixFit] = {}
        self.comparisons: dict[Place, BasisComparison] = {}
        self.rows: list[dict[str, Any]] = []

    def run(self, report: Progress | None, path_patching: bool, neuron_layers: Any) -> AdditionStudy:
        """Read, fit and patch, place by place, then heads, MLPs and neurons."""
        read = self._read(self.design.fitted.tokens)
        baselines, targets = {}, {}
        for operand, pairs in self.design.tests.items():
            tokens = pairs.prompts.tokens
            baselines[operand] = Baseline(self.bridge, tokens, layers=self.layers, batch_size=self.batch_size)
            targets[operand] = self._read(pairs.counterfactual.tokens)
        self._warn_of_position_0(read)
        accuracy = self._accuracy(baselines)
        steps = [(site, layer) for site in self.sites for layer in self.layers]
        for done, (site, layer) in enumerate(steps, 1):
            operand, column = _replaced(site), SITES.index(site)
            acts, target = (values[_hook(layer)][:, column].double() for values in (read, targets[operand]))
            if site != "last":
                self._fit(site, layer, acts)
            self._patch(site, layer, baselines[operand], acts, target)
            if report:
                report(done, len(steps))
        effects = self._components() if path_patching else None
        return AdditionStudy(
            settings=self._about(),
            layers=tuple(self.layers),
            sites=self.sites,
            accuracy=accuracy,
            spectra=self.spectra,
            helices=self.helices,
            comparisons=self.comparisons,
            patches=pandas.DataFrame(self.rows),
            components=effects,
            neurons=self._neurons(effects, neuron_layers),
            warnings=tuple(self.warnings),
        )

    def _patch(self, site: str, layer: int, baseline: Baseline, acts: torch.Tensor, target: torch.Tensor) -> None:
        pairs = self.design.tests[_replaced(site)]
        run = LayerRun(
            self.bridge,
            pairs.prompts.tokens,
            layer=layer,
            position=self.positions[site],
            answers=pairs.answers,
            batch_size=self.batch_size,
            baseline=baseline,
        )
        rows = patch_site(self.design, site, run, acts, target, self.settings)
        self.rows += [{"site": site, "layer": layer} | row for row in rows]

    def _fit(self, site: str, layer: int, acts: torch.Tensor) -> None:
        """Fourier, helix and comparison of the mean activation of each operand."""
        means, numbers = operand_means(acts, getattr(self.design.fitted, site))
        if float((means - means.mean(0)).norm()) <= 1e-6 * float(means.norm()):
            self._warn(f"layer {layer} does not tell the operands apart at {site}; nothing is fitted there")
            return
        place, seed = (site, layer), self.settings.seed
        periods, components = self.settings.periods, self.settings.components
        self.helices[place] = fit_helix(means, numbers, periods, components=components, seed=seed)
        try:
            self.comparisons[place] = compare_bases(means, numbers, periods, components=components, seed=seed)
        except ValueError as error:
            self._warn(f"bases were not compared: {error}")
        try:
            self.spectra[place] = fourier(means, numbers, window="hann")
        except ValueError as error:
            self._warn(f"no Fourier spectrum: {error}")

    def _read(self, tokens: torch.Tensor, hooks: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """{hook: (P, 3, ...)} at the positions of a, b and last, on the CPU; by default the residuals of the layers."""
        names = [_hook(layer) for layer in self.layers] if hooks is None else list(hooks)
        at = [self.positions[site] for site in SITES]
        found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        with evaluating(self.bridge):
            for part in filled_up(len(tokens), self.batch_size, torch.device("cpu")):
                _, cache = self.bridge.run_with_cache(tokens[part].to(device_of(self.bridge)), names_filter=names)
                for name in names:
                    found[name].append(cache[name][:, at].cpu())
        return {name: torch.cat(parts)[: len(tokens)] for name, parts in found.items()}

    def _accuracy(self, baselines: dict[str, Baseline]) -> float:
        hits = [
            baselines[operand].logits.argmax(1).cpu() == pairs.answers[:, 0]
            for operand, pairs in self.design.tests.items()
        ]
        share = float(torch.cat(hits).double().mean())
        if share < 0.5:
            self._warn(
                f"the model answers {share:.0%} of the test prompts right; patches say little about arithmetic that it"
                " does not do: give solved examples as prefix, or smaller numbers"
            )
        return share

    def _components(self) -> ComponentEffects:
        pairs = self.design.tests["a"]
        return component_effects(
            self.bridge,
            pairs.prompts.tokens,
            pairs.counterfactual.tokens,
            pairs.answers,
            batch_size=self.batch_size,
            progress=False,
        )

    def _neurons(self, effects: ComponentEffects | None, layers: Any) -> dict[int, NeuronFits]:
        """Fits at the last position, of the MLP with the largest total effect unless layers are named."""
        if layers is None:
            table = effects.to_pandas().query("kind == 'mlp'") if effects else pandas.DataFrame()
            chosen = [int(table.iloc[0]["layer"])] if len(table) else []
        else:
            chosen = _layers(self.bridge, layers) if len(layers) else []
        hooks = {layer: f"blocks.{layer}.mlp.hook_pre" for layer in chosen}
        missing = [layer for layer, hook in hooks.items() if hook not in self.bridge.hook_dict]
        if missing:
            self._warn(f"layers {missing} have no hook before their neurons; their neurons are not fitted")
        hooks = {layer: hook for layer, hook in hooks.items() if layer not in missing}
        values = variables(self.design.fitted, self.design)
        acts = self._read(self.design.fitted.tokens, list(hooks.values())) if hooks else {}
        return {layer: fit_neurons(acts[hook][:, -1], values, self.settings.periods) for layer, hook in hooks.items()}

    def _warn_of_position_0(self, read: dict[str, torch.Tensor]) -> None:
        for operand in ("a", "b"):
            if self.positions[operand] != 0:
                continue
            norms = [values.float().norm(dim=-1).median(0).values for values in read.values()]
            ratio = max(float(norm[SITES.index(operand)] / norm[SITES.index("last")]) for norm in norms)
            sink = "which is an attention sink here" if ratio > SINK else "where many models have an attention sink"
            self._warn(
                f"operand {operand} stands at position 0, {sink} (its norm is up to {ratio:.3g} times that of the last"
                " position): what is found there may not be about the number; give a prefix"
            )

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def _about(self) -> dict[str, Any]:
        arithmetic = self.design.arithmetic
        return {
            "model": str(getattr(self.bridge.cfg, "model_name", "")),
            "numbers": arithmetic.numbers,
            "template": arithmetic.template,
            "operator": arithmetic.operator,
            "prefix": arithmetic.prefix,
            "positions": arithmetic.positions,
            "layers": self.layers,
            "sites": list(self.sites),
            "periods": list(self.settings.periods),
            "components": self.settings.components,
            "controls": self.settings.controls,
            "seed": self.settings.seed,
            "held_out": self.design.held_out.tolist(),
            "fitted_prompts": len(self.design.fitted),
            "test_prompts": {operand: len(pairs.answers) for operand, pairs in self.design.tests.items()},
        }


def _replaced(site: str) -> str:
    """The operand that is replaced where a site is patched."""
    return "b" if site == "b" else "a"


def _hook(layer: int) -> str:
    return f"blocks.{layer}.hook_resid_pre"


def _sites(sites: Any) -> tuple[str, ...]:
    if isinstance(sites, str) or not isinstance(sites, Sequence):
        raise DTypeError(f"sites: expected a sequence of {', '.join(SITES)}, got {sites!r}")
    found = tuple(dict.fromkeys(choice("sites", site, SITES) for site in sites))
    if not found:
        raise ValueError(f"sites: expected at least one of {', '.join(SITES)}, got none")
    return found


def _layers(bridge: Any, layers: Any) -> list[int]:
    if isinstance(layers, (str, int)) or not hasattr(layers, "__iter__"):
        raise DTypeError(f"layers: expected a sequence of layers, got {layers!r}")
    found = sorted({checked_layer("layers", bridge, layer) for layer in layers})
    if not found:
        raise ValueError("layers: expected at least one layer, got none")
    return found


def _enough_numbers(design: Design, periods: tuple[float, ...]) -> None:
    """Refuse before the model runs."""
    numbers = torch.tensor(design.arithmetic.numbers, dtype=torch.float64)
    fitted = numbers[~torch.isin(numbers, design.held_out)]
    enough_rows(fitted, len(helix_basis(fitted, periods).names), "a helix")
