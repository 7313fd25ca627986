"""ITDA: dictionaries whose atoms are activations, each with the label of its token."""

from interpkern.itda.construction import BuildReport
from interpkern.itda.cross_entropy import CEScore, ce_score
from interpkern.itda.crosscoder import CrosscoderITDA
from interpkern.itda.crosscoder_comparison import SeparateComparison, compare_with_separate
from interpkern.itda.crosscoder_exclusivity import Exclusivity
from interpkern.itda.describe import AtomDescription
from interpkern.itda.dictionary import ITDA
from interpkern.itda.evaluation import Evaluation, evaluate
from interpkern.itda.layer_matching import LayerMatch, layer_match
from interpkern.itda.merging import merge
from interpkern.itda.originals import load_original
from interpkern.itda.quality import Metrics, metrics
from interpkern.itda.representations import cka, svcca
from interpkern.itda.saebench import SAEBenchITDA
from interpkern.itda.selection import refine
from interpkern.itda.similarity import Jaccard, jaccard

__all__ = [
    "ITDA",
    "AtomDescription",
    "BuildReport",
    "CEScore",
    "CrosscoderITDA",
    "Evaluation",
    "Exclusivity",
    "Jaccard",
    "LayerMatch",
    "Metrics",
    "SAEBenchITDA",
    "SeparateComparison",
    "ce_score",
    "cka",
    "compare_with_separate",
    "evaluate",
    "jaccard",
    "layer_match",
    "load_original",
    "merge",
    "metrics",
    "refine",
    "svcca",
]
