"""ITDA: dictionaries whose atoms are activations, each with the label of its token."""

from interpkern.itda.construction import BuildReport
from interpkern.itda.describe import AtomDescription
from interpkern.itda.dictionary import ITDA
from interpkern.itda.merging import merge

__all__ = ["ITDA", "AtomDescription", "BuildReport", "merge"]
