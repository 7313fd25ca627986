"""A real table of facts that everyone has: 96 characters by 24 yes-or-no properties of the Unicode database."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy
import pandas
import torch

CHARACTERS: dict[str, tuple[int, ...]] = {
    "Latin": (0x0041, 0x0071, 0x00DF, 0x00C9, 0x00F1, 0x0141, 0x017F, 0x00AA),
    "Latin, joined and raised": (0x01C5, 0x0149, 0x0133, 0xFB01, 0x1D2C, 0x0192, 0x02B0, 0x0178),
    "Greek": (0x0391, 0x03C9, 0x03C2, 0x0390, 0x03F4, 0x2126, 0x03AA, 0x037A),
    "Cyrillic and Armenian": (0x0416, 0x044F, 0x0439, 0x0462, 0x0400, 0x0531, 0x0587, 0x0559),
    "Hebrew, Arabic, Syriac": (0x05D0, 0x05E9, 0x0639, 0x0628, 0x06E5, 0xFDF2, 0x0640, 0x0710),
    "Indic and Thai": (0x0905, 0x0915, 0x093E, 0x0996, 0x0958, 0x0BC6, 0x0E01, 0x0E33),
    "East Asian": (0x4E00, 0x4E2D, 0x3007, 0x3005, 0x3042, 0x30AC, 0x30FC, 0xAC00),
    "Combining marks": (0x0301, 0x0327, 0x05B0, 0x064B, 0x094D, 0x20DD, 0x3099, 0x0345),
    "Digits and numbers": (0x0030, 0x0037, 0x00B2, 0x00BD, 0x2167, 0x0663, 0x096F, 0x2460),
    "Symbols": (0x002B, 0x003C, 0x2211, 0x2192, 0x20AC, 0x00B0, 0x2116, 0x226E),
    "Punctuation": (0x0021, 0x0028, 0x00AB, 0x201D, 0x002D, 0x005F, 0x3001, 0x061F),
    "Spaces and controls": (0x0020, 0x00A0, 0x2028, 0x0009, 0x200D, 0x202E, 0x00AD, 0x3000),
}
"""Eight code points from each of twelve groups, chosen so that every property has members and exceptions."""

PROPERTIES: dict[str, Callable[[str], bool]] = {
    "letter": lambda s: unicodedata.category(s)[0] == "L",
    "other letter": lambda s: unicodedata.category(s) == "Lo",
    "mark": lambda s: unicodedata.category(s)[0] == "M",
    "number": lambda s: unicodedata.category(s)[0] == "N",
    "decimal digit": str.isdecimal,
    "numeric value": lambda s: unicodedata.numeric(s, None) is not None,
    "punctuation": lambda s: unicodedata.category(s)[0] == "P",
    "symbol": lambda s: unicodedata.category(s)[0] == "S",
    "uppercase": str.isupper,
    "lowercase": str.islower,
    "upper() changes it": lambda s: s.upper() != s,
    "lower() changes it": lambda s: s.lower() != s,
    "casefold() changes it": lambda s: s.casefold() != s,
    "left to right": lambda s: unicodedata.bidirectional(s) == "L",
    "right to left": lambda s: unicodedata.bidirectional(s) in ("R", "AL"),
    "neutral direction": lambda s: unicodedata.bidirectional(s) == "ON",
    "combining class": lambda s: unicodedata.combining(s) != 0,
    "mirrored": lambda s: bool(unicodedata.mirrored(s)),
    "canonical decomposition": lambda s: unicodedata.decomposition(s)[:1] not in ("", "<"),
    "compatibility decomposition": lambda s: unicodedata.decomposition(s)[:1] == "<",
    "starts an identifier": str.isidentifier,
    "continues an identifier": lambda s: f"a{s}".isidentifier(),
    "wide": lambda s: unicodedata.east_asian_width(s) in ("W", "F"),
    "printable": str.isprintable,
}


@dataclass(frozen=True)
class UnicodeTable:
    """The table with the names of its rows and columns."""

    table: torch.Tensor
    """(96, 24) uint8."""
    characters: tuple[str, ...]
    properties: tuple[str, ...]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a character, one column a property."""
        names = [f"U+{ord(character):04X} {name_of(character)}" for character in self.characters]
        return pandas.DataFrame(
            self.table.numpy(), index=pandas.Index(names, name="character"), columns=self.properties
        )


def unicode_table() -> UnicodeTable:
    """The 2,304 facts, no column constant and no two columns alike.

    Returns:
        UnicodeTable; density, ranks and repeats follow from its `table`.

    Source:
        Python's `unicodedata` and str methods; the Unicode Character Database, version `unicodedata.unidata_version`.

    Example:
        >>> unicode_table().table.shape
        torch.Size([96, 24])
    """
    characters = tuple(chr(point) for points in CHARACTERS.values() for point in points)
    rows = [[has(character) for has in PROPERTIES.values()] for character in characters]
    return UnicodeTable(torch.from_numpy(numpy.array(rows, dtype=numpy.uint8)), characters, tuple(PROPERTIES))


def name_of(character: str) -> str:
    """The Unicode name; control characters have none."""
    return unicodedata.name(character, "CONTROL CHARACTER")
