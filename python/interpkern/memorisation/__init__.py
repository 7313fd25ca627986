"""The memorisation lab: how many random facts a tiny MLP can hold, and how."""

from interpkern.memorisation.bits import bits_accuracy, bits_ce, entropy, mean_interval, wilson_interval
from interpkern.memorisation.models import TableMLPs, TwoLogitReadout
from interpkern.memorisation.modules import TableMLP
from interpkern.memorisation.readouts import solve_readout
from interpkern.memorisation.run import MemoriseRun
from interpkern.memorisation.scaling import scaling_law
from interpkern.memorisation.sweeps import Sweep, capacity_sweep, load_sweep
from interpkern.memorisation.table_files import load_table
from interpkern.memorisation.tables import random_tables
from interpkern.memorisation.training import memorise

__all__ = [
    "MemoriseRun",
    "Sweep",
    "TableMLP",
    "TableMLPs",
    "TwoLogitReadout",
    "bits_accuracy",
    "bits_ce",
    "capacity_sweep",
    "entropy",
    "load_sweep",
    "load_table",
    "mean_interval",
    "memorise",
    "random_tables",
    "scaling_law",
    "solve_readout",
    "wilson_interval",
]
