"""Pictures of a run of `memorise`."""

from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from interpkern.memorisation.bits import density, entropy, wilson_interval
from interpkern.memorisation.initialisation import POINTS

if TYPE_CHECKING:
    from interpkern.memorisation.run import MemoriseRun

QUANTILES = (0.05, 0.5, 0.95)
BLUE, ORANGE = "#0072B2", "#D55E00"


def plot_run(run: "MemoriseRun") -> Figure:
    """Loss against updates on the left, bits per parameter on the right."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _loss(left, run)
    _bits(right, run)
    figure.suptitle(f"{sizes(run)}\n{budget(run)}", fontsize=10)
    return figure


def _loss(axes: Axes, run: "MemoriseRun") -> None:
    low, middle, high = torch.nanquantile(run.loss.double(), torch.tensor(QUANTILES, dtype=torch.float64), dim=0)
    x = run.logged_steps
    axes.fill_between(x, low, high, color=BLUE, alpha=0.25, lw=0, label="5 % to 95 % of models")
    axes.plot(x, middle, color=BLUE, marker="o", markersize=3, label="median")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.set_xlabel("updates in this run")
    axes.set_ylabel("cross-entropy (nats per fact)")
    axes.legend(frameon=False)


def _bits(axes: Axes, run: "MemoriseRun") -> None:
    per_parameter = run.bits("ce") / run.parameters("two_logit")
    finite = per_parameter.isfinite()
    groups = [per_parameter[finite & run.solved].numpy(), per_parameter[finite & ~run.solved].numpy()]
    axes.hist(groups, bins=30, stacked=True, color=[BLUE, ORANGE], label=["all facts right", "some facts wrong"])
    full = float(entropy(density(run.tables)).mean()) * run.facts / run.parameters("two_logit")
    axes.axvline(full, color="black", ls="--", lw=1, label=f"every bit of the table: {full:.2f}")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("bits per parameter (cross-entropy bits / P2)")
    axes.set_ylabel("models")
    axes.set_title(solved_sentence(run.solved, diverged=int((~finite).sum())), fontsize=9)
    axes.legend(frameon=False)


def solved_sentence(solved: torch.Tensor, *, diverged: int) -> str:
    """How many models have every fact right, with Wilson's 95 % interval."""
    count, models = int(solved.sum()), len(solved)
    low, high = wilson_interval(count, models)
    tail = f"; {diverged} diverged" if diverged else ""
    return f"solved {count} of {models}: {count / models:.0%} (95 % interval {low:.0%} to {high:.0%}){tail}"


def sizes(run: "MemoriseRun") -> str:
    """The shape of the models, in words."""
    models, one, two = run.models, run.parameters("one_logit"), run.parameters("two_logit")
    count = f"{len(run):,} model{'s' if len(run) > 1 else ''}"
    table = f"tables of {models.rows} x {models.cols} facts, {models.embedding} embeddings"
    facts = f"{models.rows} points" if models.embedding == POINTS else table
    return f"{count}, {facts}, d_model {models.d_model}, d_hidden {models.d_hidden}: P1 {one:,}, P2 {two:,}"


def budget(run: "MemoriseRun") -> str:
    """The budget of training, in words."""
    settings = run.settings
    rates = settings["lr"] if isinstance(settings["lr"], list) else [settings["lr"]]
    rate = " to ".join(dict.fromkeys(f"{end:g}" for end in (min(rates), max(rates))))
    horizon = f" over {settings['schedule_steps']:,}" if settings["schedule"] == "cosine" else ""
    earlier = int((run.state.step.cpu() - run.steps_taken).max())
    after = f" after {earlier:,} earlier ones" if earlier else ""
    stop = ", stopped when solved" if settings["stop_when_solved"] else ""
    return f"Adam, lr {rate}, {settings['schedule']} schedule{horizon}, {settings['steps']:,} updates{after}{stop}"
