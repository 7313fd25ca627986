"""Probing: how a model holds numbers, on what scale, and whether it uses that."""

from interpkern.probing.addition import addition_study
from interpkern.probing.baseline import Baseline
from interpkern.probing.bases import Basis, helix_basis, polynomial_basis
from interpkern.probing.basis_comparison import BasisComparison, compare_bases
from interpkern.probing.causal import ablate, patch
from interpkern.probing.causal_curves import ablation_curve, patch_curve
from interpkern.probing.circle_test import CircleTest, circle_test
from interpkern.probing.collect import number_activations
from interpkern.probing.confounds import find_confounds
from interpkern.probing.digit_probes import compare_digit_bases, digit_probes
from interpkern.probing.directions import Directions, directions
from interpkern.probing.directions_comparison import compare_directions
from interpkern.probing.fourier import fourier
from interpkern.probing.hand_built import log_multiplier
from interpkern.probing.helix import HelixFit, fit_helix
from interpkern.probing.layer_run import LayerRun
from interpkern.probing.log_probe import LogProbe, log_probe
from interpkern.probing.modular import discrete_log, embedding_spectrum, gini
from interpkern.probing.modular_model import load_modmul59
from interpkern.probing.multiplication import multiplication_study
from interpkern.probing.neurons import fit_neurons
from interpkern.probing.number_lines import compare_number_lines, number_line, scaling_exponent
from interpkern.probing.number_sets import NumberActivations
from interpkern.probing.path_patching import component_effects
from interpkern.probing.prompts import multiplication_prompts
from interpkern.probing.spectrum import Scan, scan
from interpkern.probing.subspaces import fit_direction

__all__ = [
    "Baseline",
    "Basis",
    "BasisComparison",
    "CircleTest",
    "Directions",
    "HelixFit",
    "LayerRun",
    "LogProbe",
    "NumberActivations",
    "Scan",
    "ablate",
    "ablation_curve",
    "addition_study",
    "circle_test",
    "compare_bases",
    "compare_digit_bases",
    "compare_directions",
    "compare_number_lines",
    "component_effects",
    "digit_probes",
    "directions",
    "discrete_log",
    "embedding_spectrum",
    "find_confounds",
    "fit_direction",
    "fit_helix",
    "fit_neurons",
    "fourier",
    "gini",
    "helix_basis",
    "load_modmul59",
    "log_multiplier",
    "log_probe",
    "multiplication_prompts",
    "multiplication_study",
    "number_activations",
    "number_line",
    "patch",
    "patch_curve",
    "polynomial_basis",
    "scaling_exponent",
    "scan",
]
