"""Which heads and MLPs carry the difference of two prompts to the answer: by activation patching and path patching."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.errors import ShapeError
from interpkern.probing.baseline import Baseline, filled_up
from interpkern.probing.bridges import checked_layer, checked_tokens, hooked
from interpkern.probing.layer_run import checked_answers
from interpkern.progress import Progress, reporting
from interpkern.validation import integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ADDITIVE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest part of a residual that the outputs of attention and MLP may leave unexplained; 0.05 in half precision."""


@dataclass(frozen=True)
class Component:
    """A part of a model that writes into the residual."""

    kind: str
    """head or mlp."""
    layer: int
    head: int | None = None

    @property
    def name(self) -> str:
        """L9H6, or MLP 9."""
        return f"MLP {self.layer}" if self.head is None else f"L{self.layer}H{self.head}"


@dataclass(frozen=True, eq=False)
class ComponentEffects:
    """What each head and MLP does to the answers when it acts as in the counterfactual prompt, in logits."""

    components: tuple[Component, ...]
    """N of them."""
    total: torch.Tensor
    """(N, P, 2) change of the logits of the answer and of the counterfactual answer, all later parts recomputed."""
    direct: torch.Tensor
    """(N, P, 2) the same with all later heads and MLPs frozen at what they do in the prompt."""
    full: torch.Tensor
    """(P, 2) the change from the prompt to the counterfactual prompt: what all components together can do."""
    position: int
    """Where the components were patched."""

    @property
    def indirect(self) -> torch.Tensor:
        """(N, P, 2) what later heads and MLPs make of it."""
        return self.total - self.direct

    def to_pandas(self) -> pandas.DataFrame:
        """One row a component, by the size of its total effect, as means over prompts.

        delta_logit is the change of the counterfactual answer's logit, logit_difference the change of the logit of
        the counterfactual answer less that of the answer; share is that of the whole change of the latter.
        """
        table: dict[str, Any] = {
            "component": [part.name for part in self.components],
            "kind": [part.kind for part in self.components],
            "layer": [part.layer for part in self.components],
            "head": pandas.array([part.head for part in self.components], dtype="Int64"),
        }
        whole = float(_difference(self.full).mean())
        for name, effect in (("total", self.total), ("direct", self.direct), ("indirect", self.indirect)):
            table[f"{name}_delta_logit"] = effect[..., 1].mean(1).numpy()
            table[f"{name}_logit_difference"] = _difference(effect).mean(1).numpy()
            table[f"{name}_share"] = (_difference(effect).mean(1) / whole).numpy()
        frame = pandas.DataFrame(table)
        order = frame["total_logit_difference"].abs().sort_values(ascending=False, kind="stable").index
        return frame.loc[order].reset_index(drop=True)

    def plot(self) -> "Figure":
        """Draw the direct and the indirect effect of heads and MLPs over layers."""
        from interpkern.probing.addition_plots import plot_components

        return plot_components(self)


def component_effects(
    bridge: Any,
    prompts: Any,
    counterfactual_prompts: Any,
    answers: Any,
    *,
    position: int = -1,
    layers: Sequence[int] | None = None,
    batch_size: int = 64,
    progress: Progress | bool | None = None,
) -> ComponentEffects:
    """Patch the output of each head and MLP at one position with that of a counterfactual prompt.

    Activation patching lets all later parts react: the total effect. Path patching freezes all later heads and MLPs, so
    that what is changed reaches the logits by the residual alone: the direct effect. Both begin at the component's
    layer with the residual of the one run without patches, and take many components and prompts a pass.

    Shapes:
        prompts, counterfactual_prompts: (P, S) int64 token ids; answers: (P, 2) int64, the answer and the
        counterfactual answer of each prompt.

    Args:
        bridge: a transformer_lens TransformerBridge (3.9 to 4.x).
        position: of the patches, negative from the end.
        layers: whose components are patched; by default all.
        batch_size: rows in one forward pass.
        progress: a function of (done, total) layers; True or False for a bar or none; by default a bar on a terminal.

    Returns:
        ComponentEffects, in logits.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Kantamneni and Tegmark 2025, arXiv 2502.00873, section 5; Wang et al. 2022, arXiv 2211.00593, for path patching.

    Example:
        >>> effects = component_effects(bridge, prompts, others, answers)  # doctest: +SKIP
        >>> effects.to_pandas().component[0]  # doctest: +SKIP
        'L9H6'
    """
    tokens = checked_tokens("prompts", bridge, prompts)
    others = checked_tokens("counterfactual_prompts", bridge, counterfactual_prompts)
    if tokens.shape != others.shape:
        raise ShapeError(f"counterfactual_prompts: expected {tuple(tokens.shape)}, got {tuple(others.shape)}")
    place = integer("position", position, -tokens.shape[1], tokens.shape[1] - 1) % tokens.shape[1]
    chosen = _layers(bridge, layers)
    wanted = checked_answers("answers", answers, len(tokens), bridge.cfg.d_vocab).to(tokens.device)
    if wanted.ndim != 2 or wanted.shape[1] != 2:
        raise ShapeError(f"answers: expected (P, 2), answer and counterfactual answer, got {tuple(wanted.shape)}")
    clean = _Outputs.of(bridge, tokens, place, batch_size, chosen)
    other = _Outputs.of(bridge, others, place, batch_size, chosen[:1])
    components, total, direct = [], [], []
    with reporting(progress, "patching", "layer") as report:
        for done, layer in enumerate(chosen, 1):
            parts = [Component("head", layer, head) for head in range(clean.heads)]
            parts += [Component("mlp", layer)] if layer in clean.mlp else []
            components += parts
            total.append(_changed(clean, other, parts, wanted, frozen=False))
            direct.append(_changed(clean, other, parts, wanted, frozen=True))
            if report:
                report(done, len(chosen))
    before, after = (outputs.baseline.logits.gather(1, wanted).cpu().double() for outputs in (clean, other))
    return ComponentEffects(tuple(components), torch.cat(total), torch.cat(direct), after - before, place)


def _difference(effect: torch.Tensor) -> torch.Tensor:
    return effect[..., 1] - effect[..., 0]


def _layers(bridge: Any, layers: Any) -> list[int]:
    if layers is None:
        return list(range(len(bridge.blocks)))
    found = sorted({checked_layer("layers", bridge, layer) for layer in layers})
    if not found:
        raise ValueError("layers: expected at least one layer, got none")
    return found


@dataclass(frozen=True, eq=False)
class _Outputs:
    """One run of some prompts, with what every head and MLP gives at the position and at the last one."""

    baseline: Baseline
    position: int
    heads: int
    z: dict[int, torch.Tensor]
    """{layer: (P, heads, width)} at the position, before the output projection."""
    attention: dict[int, torch.Tensor]
    """{layer: (P, D)} at the last position."""
    mlp: dict[int, torch.Tensor]
    """{layer: (P, D)} at the last position; layers without an MLP are missing."""
    mlp_at_position: dict[int, torch.Tensor]

    @classmethod
    def of(cls, bridge: Any, tokens: torch.Tensor, position: int, batch_size: int, layers: Sequence[int]) -> "_Outputs":
        baseline = Baseline(bridge, tokens, layers=[0, *layers], batch_size=batch_size)
        found: dict[tuple[str, int], list[torch.Tensor]] = {}
        for part in filled_up(len(tokens), baseline.batch_size, tokens.device):
            with _reading(bridge, found, position):
                baseline.logits_from(0, part, baseline.residuals[0][part])
        whole = {key: torch.cat(parts)[: len(tokens)] for key, parts in found.items()}

        def of(kind: str, place: int) -> dict[int, torch.Tensor]:
            return {layer: values[:, place] for (name, layer), values in whole.items() if name == kind}

        heads = int(bridge.cfg.n_heads)
        z = {layer: values.unflatten(-1, (heads, -1)) for layer, values in of("z", 0).items()}
        outputs = cls(baseline, position, heads, z, of("attention", 1), of("mlp", 1), of("mlp", 0))
        outputs._check_additive()
        return outputs

    def _check_additive(self) -> None:
        """What enters a layer has to be what entered the one before, plus attention, plus MLP."""
        for layer in self.baseline.layers:
            if layer + 1 in self.baseline.residuals and layer in self.attention:
                before, after = (self.baseline.residuals[n][:, -1] for n in (layer, layer + 1))
                summed = before + self.attention[layer] + self.mlp.get(layer, torch.zeros_like(before))
                if float((after - summed).norm()) > ADDITIVE.get(after.dtype, 0.05) * float(after.norm()):
                    raise ValueError(
                        f"bridge: block {layer} adds something else to the residual than its attention and its MLP, so"
                        " the effects of heads and MLPs are not defined; path patching can't be done on this model"
                    )


def _points(bridge: Any, layer: int) -> dict[str, torch.nn.Module]:
    """The hook points of a layer's head inputs to the output projection, of its attention and of its MLP."""
    block = bridge.blocks[layer]
    try:
        points = {"z": block.attn.o.hook_in, "attention": block.attn.hook_out}
    except AttributeError as error:
        raise ValueError(f"bridge: block {layer} has no attention with an output projection ({error})") from None
    return points | ({"mlp": block.mlp.hook_out} if hasattr(block, "mlp") else {})


@contextmanager
def _reading(bridge: Any, found: dict[tuple[str, int], list[torch.Tensor]], position: int) -> Iterator[None]:
    """Runs that add to `found` what each hook point gives at the position and at the last one."""

    def keep(key: tuple[str, int]) -> Any:
        return lambda module, inputs, output: found.setdefault(key, []).append(output[:, [position, -1]].clone())

    layers = range(len(bridge.blocks))
    with hooked([(point, keep((kind, n))) for n in layers for kind, point in _points(bridge, n).items()]):
        yield


def _changed(
    clean: _Outputs, other: _Outputs, parts: Sequence[Component], answers: torch.Tensor, *, frozen: bool
) -> torch.Tensor:
    """(N, P, 2) float64 change of the answers' logits when each part of one layer acts as in the other prompts."""
    baseline, layer = clean.baseline, parts[0].layer
    prompts, size = len(answers), baseline.batch_size
    heads = torch.tensor([clean.heads if part.head is None else part.head for part in parts], device=answers.device)
    found = []
    for number, item in enumerate(filled_up(len(parts) * prompts, size, answers.device)):
        rows, which = item % prompts, heads[item // prompts]
        with _patches(clean, other, layer, rows, which, frozen):
            logits = baseline.logits_from(layer, rows, baseline.residuals[layer][rows])
        real = min(size, len(parts) * prompts - number * size)
        wanted = answers[rows]
        found.append((logits.gather(1, wanted) - baseline.logits[rows].gather(1, wanted))[:real].cpu().double())
    return torch.cat(found).view(len(parts), prompts, 2)


@contextmanager
def _patches(
    clean: _Outputs, other: _Outputs, layer: int, rows: torch.Tensor, which: torch.Tensor, frozen: bool
) -> Iterator[None]:
    """Runs in which row i has head which[i] of the layer, or its MLP where which[i] is the number of heads, patched."""
    bridge, place = clean.baseline.bridge, clean.position
    is_head = which < clean.heads
    at_head, at_mlp = is_head.nonzero()[:, 0], (~is_head).nonzero()[:, 0]

    def patch_z(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        new = output.clone()
        split = new.view(*new.shape[:2], clean.heads, -1)
        split[at_head, place, which[at_head]] = other.z[layer][rows[at_head], which[at_head]]
        return new

    def patch_mlp(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        new = output.clone()
        if frozen:
            new[:, -1] = clean.mlp[layer][rows]
        new[at_mlp, place] = other.mlp_at_position[layer][rows[at_mlp]]
        return new

    points = _points(bridge, layer)
    hooks = [(points["z"], patch_z)] + ([(points["mlp"], patch_mlp)] if "mlp" in points else [])
    for later in range(layer + 1, len(bridge.blocks)) if frozen else ():
        writing = {kind: point for kind, point in _points(bridge, later).items() if kind != "z"}
        hooks += [(point, _held(getattr(clean, kind)[later][rows])) for kind, point in writing.items()]
    with hooked(hooks):
        yield


def _held(values: torch.Tensor) -> Any:
    def hold(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        new = output.clone()
        new[:, -1] = values
        return new

    return hold
