"""How long a sweep will take here, from a fraction of a second of some of its cells."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy

from interpkern.memorisation.places import Place
from interpkern.memorisation.training_cells import Training, trained

CALIBRATION_SECONDS = 0.1
SOLVERS = ("adam", "exact")
FACTOR = 4


def predicted_seconds(trainings: Sequence[Training], place: Place) -> float:
    """How long these trainings take at a place, from a moment of the cheapest, a middle and the dearest of a kind."""
    kinds = ([each for each in trainings if each.solver == solver] for solver in SOLVERS)
    return sum(_predicted(kind, place) for kind in kinds if kind)


def in_words(seconds: float) -> str:
    """How long, and when it will be done."""
    if seconds < 1:
        return "less than a second" if seconds else "nothing to wait for"
    amount = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"about {amount} here, done at {time.strftime('%H:%M', time.localtime(time.time() + seconds))}"


def _predicted(trainings: Sequence[Training], place: Place) -> float:
    flops = numpy.array([training.flops for training in trainings], dtype=float)
    order = numpy.argsort(flops)
    measured = [trainings[order[at]] for at in dict.fromkeys([0, len(order) // 2, len(order) - 1])]
    fixed, rates = zip(*(_speed(training, place) for training in measured), strict=True)
    x, known = numpy.log(flops), numpy.log([training.flops for training in measured])
    return float((numpy.interp(x, known, fixed) + flops / numpy.interp(x, known, rates)).sum())


def _speed(training: Training, place: Place) -> tuple[float, float]:
    """Seconds of a call that trains next to nothing, and FLOPs a second beyond that."""

    def seconds(part: Training) -> float:
        start = time.perf_counter()
        trained(part, place, progress=False)
        return time.perf_counter() - start

    if training.solver == "exact":
        one = replace(training, models=1)
        return 0.0, one.flops / min(seconds(one) for _ in range(2))
    least = replace(training, steps=1)
    fixed = taken = min(seconds(least) for _ in range(2))
    part = least
    while part.steps < training.steps and taken - fixed < CALIBRATION_SECONDS:
        part = replace(part, steps=min(FACTOR * part.steps, training.steps))
        taken = seconds(part)
    gained = part.flops - least.flops
    return fixed, gained / max(taken - fixed, 1e-6) if gained else math.inf
