"""What any dictionary has once it is built, plain or of several sites: labelled atoms, and how they came to be."""

from abc import ABC, abstractmethod
from typing import Any

import torch

from interpkern.itda import describe as descriptions
from interpkern.itda.construction import BuildReport, Construction
from interpkern.itda.describe import AtomDescription
from interpkern.validation import integer


class Built(ABC):
    """Labelled atoms of unit norm, chosen from rows."""

    _source: Any = None
    """The Activations that it was fitted on, where they know their tokens."""

    @property
    @abstractmethod
    def _built(self) -> Construction:
        """Its atoms and their story; ValueError before `fit`."""

    @abstractmethod
    def __len__(self) -> int:
        """M, the number of atoms; 0 before fit."""

    def __bool__(self) -> bool:
        return True

    @property
    def labels(self) -> torch.Tensor:
        """(M, 2) int64, prompt id and position of each atom."""
        return self._built.atoms.labels

    @property
    def threshold(self) -> float:
        """The loss above which a row becomes an atom, found or given."""
        return self._built.threshold

    @property
    def report(self) -> BuildReport:
        """What happened while the dictionary was built."""
        return self._built.report()

    def describe(self, atom: int, *, activations: Any = None, tokenizer: Any = None) -> AtomDescription:
        """Say which token an atom was taken from, in its context.

        Args:
            atom: its number.
            activations: the interpkern.Activations that it was fitted on, of any site, which know their texts; needed
                only where this object has not seen them.
            tokenizer: decodes the token alone, where its id is known.

        Example:
            >>> print(ITDA(k=4).fit(torch.randn(100, 8)).describe(0))
            atom 0, prompt 0, position 0
        """
        atoms = self._built.atoms
        number = integer("atom", atom, 0, len(atoms) - 1)
        known = self._source if activations is None else activations
        return descriptions.describe(atoms, number, activations=known, tokenizer=tokenizer)
