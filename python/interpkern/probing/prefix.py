"""Keys and values of the positions before any replacement, kept so that they are not computed again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from interpkern.extras import need
from interpkern.probing.bridges import naming_caches


@dataclass(frozen=True, eq=False)
class Prefix:
    """What the layers from one onwards attend to at the first positions of each prompt."""

    layer: int
    length: int
    """Positions that are not run again."""
    keys: tuple[torch.Tensor, ...]
    """(P, heads, length, width) of each layer from `layer` onwards."""
    values: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, bridge: Any, tokens: torch.Tensor, layer: int, passes: Iterator[torch.Tensor]) -> "Prefix":
        """Run the first positions (P, length) in some passes of rows."""
        keys: list[list[torch.Tensor]] = []
        values: list[list[torch.Tensor]] = []
        for rows in passes:
            with naming_caches(bridge):
                cache = bridge.original_model(tokens[rows], use_cache=True).past_key_values.layers[layer:]
            keys.append([one.keys for one in cache])
            values.append([one.values for one in cache])
        joined = (
            tuple(torch.cat(parts)[: len(tokens)] for parts in zip(*found, strict=True)) for found in (keys, values)
        )
        return cls(layer, tokens.shape[1], *joined)

    def cache(self, rows: torch.Tensor) -> Any:
        """A cache of the prompts `rows` (n,); layers that are left out only have to have the length."""
        cache = need("transformers", "probe", "leaving out positions").DynamicCache()
        for number in range(self.layer + len(self.keys)):
            kept = max(0, number - self.layer)
            cache.update(self.keys[kept][rows], self.values[kept][rows], number)
        return cache
