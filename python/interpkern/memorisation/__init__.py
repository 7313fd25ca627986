"""The memorisation lab: how many random facts a tiny MLP can hold, and how."""

from interpkern.memorisation.ablation import ablation_curves
from interpkern.memorisation.bits import bits_accuracy, bits_ce, entropy, mean_interval, wilson_interval
from interpkern.memorisation.circuit_plots import plot_decomposition
from interpkern.memorisation.circuits import Circuits, circuits
from interpkern.memorisation.constructions import (
    bits_per_parameter,
    compare_constructions,
    exact,
    rectangle_cover,
    row_lookup,
    ternary,
    threshold_slabs,
    zigzag,
)
from interpkern.memorisation.lab_report import lab_report
from interpkern.memorisation.lab_studies import LabStudy, lab_study, load_lab_study
from interpkern.memorisation.low_rank import equal_rank, low_rank_fit, svd_accuracy
from interpkern.memorisation.matching import SharedStructure, shared_structure
from interpkern.memorisation.models import TableMLPs, TwoLogitReadout
from interpkern.memorisation.modules import TableMLP
from interpkern.memorisation.quantisation import quantise, quantise_retrained
from interpkern.memorisation.readouts import solve_readout
from interpkern.memorisation.run import MemoriseRun
from interpkern.memorisation.scaling import scaling_law
from interpkern.memorisation.sweeps import Sweep, capacity_sweep, load_sweep
from interpkern.memorisation.table_files import load_table
from interpkern.memorisation.tables import random_tables
from interpkern.memorisation.training import memorise
from interpkern.memorisation.worked_example import worked_example

__all__ = [
    "Circuits",
    "LabStudy",
    "MemoriseRun",
    "SharedStructure",
    "Sweep",
    "TableMLP",
    "TableMLPs",
    "TwoLogitReadout",
    "ablation_curves",
    "bits_accuracy",
    "bits_ce",
    "bits_per_parameter",
    "capacity_sweep",
    "circuits",
    "compare_constructions",
    "entropy",
    "equal_rank",
    "exact",
    "lab_report",
    "lab_study",
    "load_lab_study",
    "load_sweep",
    "load_table",
    "low_rank_fit",
    "mean_interval",
    "memorise",
    "plot_decomposition",
    "quantise",
    "quantise_retrained",
    "random_tables",
    "rectangle_cover",
    "row_lookup",
    "scaling_law",
    "shared_structure",
    "solve_readout",
    "svd_accuracy",
    "ternary",
    "threshold_slabs",
    "wilson_interval",
    "worked_example",
    "zigzag",
]
