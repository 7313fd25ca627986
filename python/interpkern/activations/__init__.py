"""Activations: collected from a model, or opened from files, folders and iterables."""

from interpkern.activations.collecting import collect
from interpkern.activations.source import Activations

__all__ = ["Activations", "collect"]
