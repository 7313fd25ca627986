"""The real table: known facts, and columns that all say something of their own."""

import unicodedata

import numpy
import pytest

from interpkern.memorisation.unicode_table import CHARACTERS, PROPERTIES, unicode_table


def test_shape_and_names():
    found = unicode_table()
    assert found.table.shape == (96, 24)
    assert len(set(found.characters)) == 96
    assert all(len(points) == 8 for points in CHARACTERS.values())
    assert found.properties == tuple(PROPERTIES)
    assert set(found.table.unique().tolist()) == {0, 1}


def test_every_character_is_assigned():
    assert all(unicodedata.category(character) != "Cn" for character in unicode_table().characters)


def test_no_column_is_constant_or_like_another():
    table = unicode_table().table.numpy().astype(int)
    counts = table.sum(axis=0)
    assert counts.min() >= 4
    assert counts.max() <= 92
    both = {*map(bytes, table.T.astype("uint8")), *map(bytes, (1 - table.T).astype("uint8"))}
    assert len(both) == 48
    assert numpy.linalg.matrix_rank(table) == 24


@pytest.mark.parametrize(
    ("character", "name", "answer"),
    [
        ("A", "letter", 1),
        ("A", "uppercase", 1),
        ("A", "lowercase", 0),
        ("ß", "upper() changes it", 1),
        ("ß", "lower() changes it", 0),
        ("א", "right to left", 1),
        ("(", "mirrored", 1),
        ("½", "numeric value", 1),
        ("½", "decimal digit", 0),
        ("ﬁ", "compatibility decomposition", 1),
        ("é".upper(), "canonical decomposition", 1),
        ("中", "wide", 1),
        ("\u0301", "combining class", 1),
        ("_", "starts an identifier", 1),
        ("7", "starts an identifier", 0),
        ("7", "continues an identifier", 1),
        ("\t", "printable", 0),
    ],
)
def test_known_facts(character, name, answer):
    found = unicode_table()
    assert found.table[found.characters.index(character), found.properties.index(name)] == answer


def test_to_pandas_names_rows_and_columns():
    frame = unicode_table().to_pandas()
    assert frame.loc["U+0041 LATIN CAPITAL LETTER A", "letter"] == 1
    assert frame.loc["U+0009 CONTROL CHARACTER", "printable"] == 0
