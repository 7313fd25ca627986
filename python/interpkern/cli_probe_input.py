"""What the probe commands read: models, and numbers and layers as lists of ranges."""

import re

SPAN = re.compile(r"(\d+)(?:-(\d+))?$")


def numbers_of(name: str, typed: str) -> list[int]:
    """The integers that a list such as 1-9 or 1,2,5-9 names.

    Example:
        >>> numbers_of("numbers", "1,3-5")
        [1, 3, 4, 5]
    """
    found: list[int] = []
    for part in typed.replace(" ", "").split(","):
        span = SPAN.match(part)
        if span is None or int(span[2] or span[1]) < int(span[1]):
            raise ValueError(f"{name}: expected integers such as 1-360 or 1,2,5-9, got {typed!r}")
        found += range(int(span[1]), int(span[2] or span[1]) + 1)
    return found


def layers_of(name: str, typed: str | None) -> list[int] | None:
    """The layers that a list names; None where none was given."""
    return None if typed is None else numbers_of(name, typed)
