"""ITDA: dictionaries whose atoms are activations, each with the label of its token."""

from interpkern.itda.construction import BuildReport
from interpkern.itda.describe import AtomDescription
from interpkern.itda.dictionary import ITDA
from interpkern.itda.layer_matching import LayerMatch, layer_match
from interpkern.itda.merging import merge
from interpkern.itda.originals import load_original
from interpkern.itda.representations import cka, svcca
from interpkern.itda.saebench import SAEBenchITDA
from interpkern.itda.similarity import Jaccard, jaccard

__all__ = [
    "ITDA",
    "AtomDescription",
    "BuildReport",
    "Jaccard",
    "LayerMatch",
    "SAEBenchITDA",
    "cka",
    "jaccard",
    "layer_match",
    "load_original",
    "merge",
    "svcca",
]
