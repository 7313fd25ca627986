"""Sweeps that survive anything: a directory of cells, each a pure function of its spec, written whole or not at all."""

from interpkern.runs.cells import Cell, Result
from interpkern.runs.executor import Compute, run_cells
from interpkern.runs.packing import Damaged
from interpkern.runs.store import Store

__all__ = ["Cell", "Compute", "Damaged", "Result", "Store", "run_cells"]
