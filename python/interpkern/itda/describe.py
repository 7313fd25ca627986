"""What an atom is, in words: the token that it was taken from, in its context."""

from dataclasses import dataclass
from typing import Any

from interpkern.itda.atoms import Atoms


@dataclass(frozen=True)
class AtomDescription:
    """An atom in words, as far as they are known."""

    atom: int
    prompt_id: int
    position: int
    token_id: int
    """-1 where unknown."""
    token: str | None
    """The token at the atom's position."""
    text: str | None
    """The text around it, with the token marked."""

    def __str__(self) -> str:
        where = f"atom {self.atom}, prompt {self.prompt_id}, position {self.position}"
        if self.text is not None:
            return f"{where}: {self.text}"
        return where if self.token is None else f"{where}: {self.token!r}"


def describe(atoms: Atoms, atom: int, *, activations: Any = None, tokenizer: Any = None) -> AtomDescription:
    """Describe one atom from the activations that it was taken from, or by a tokenizer from its token alone."""
    record = atoms.records[atom]
    prompt, position, token_id = (int(record[name]) for name in ("prompt_id", "position", "token_id"))
    token = text = None
    if activations is not None:
        found = activations.describe(prompt, position)
        token_id, token, text = int(found.token_id), found.token, str(found)
    elif tokenizer is not None and token_id >= 0:
        token = str(tokenizer.decode([token_id]))
    return AtomDescription(atom, prompt, position, token_id, token, text)
