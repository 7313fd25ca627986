"""Few-shot products: the operands' places and the answers, whatever the tokenizer joins."""

from typing import Any

import pytest
import torch

from interpkern.errors import DTypeError
from interpkern.probing.prompts import SHOTS, multiplication_prompts

pytest.importorskip("transformers")
PAIRS = [(2, 3), (9, 8), (1, 7)]


def tokenizer(*, merges: tuple[tuple[str, str], ...] = (), tokens: tuple[str, ...] = ()) -> Any:
    """Byte-level, with some joined tokens ("Ġ" is a space) and one that begins a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = ["<s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *tokens]
    inner = Tokenizer(models.BPE({token: number for number, token in enumerate(letters)}, list(merges)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")


@pytest.mark.parametrize("special", [False, True])
def test_operands_and_answers_are_where_the_text_has_them(special: bool) -> None:
    cut = tokenizer()
    found = multiplication_prompts(cut, PAIRS, special_tokens=special)
    text = "".join(f"{a} * {b} = {a * b}\n" for a, b in SHOTS)
    for row, (a, b) in enumerate(PAIRS):
        assert cut.decode(found.tokens[row], skip_special_tokens=True) == f"{text}{a} * {b} = "
        operands = [cut.decode(found.tokens[row, place]) for place in found.operands[row]]
        assert operands == [str(a), str(b)]
        assert cut.decode(found.answers[row]) == str(a * b)[0]
    assert found.whole_answer.tolist() == [True, False, True]
    assert bool((found.tokens[:, 0] == 0).all()) == special
    assert found[torch.tensor([2, 0])].a.tolist() == [1, 2]


def test_a_space_belongs_to_the_answer_where_the_tokenizer_joins_them() -> None:
    tokens, merges = ("Ġ6", "Ġ7", "Ġ3"), (("Ġ", "6"), ("Ġ", "7"), ("Ġ", "3"))
    cut = tokenizer(tokens=tokens, merges=merges)
    found = multiplication_prompts(cut, [(2, 3), (1, 7)], shots=())
    assert [cut.decode(ids) for ids in found.tokens] == ["2 * 3 =", "1 * 7 ="]
    assert [cut.decode(token) for token in found.answers] == [" 6", " 7"]
    assert [cut.decode(found.tokens[0, place]) for place in found.operands[0]] == ["2", " 3"]


def test_wrong_input_is_refused_by_name() -> None:
    cut = tokenizer()
    with pytest.raises(ValueError, match=r"pairs: expected none that is shown .*\(3, 4\)"):
        multiplication_prompts(cut, [(3, 4)])
    with pytest.raises(ValueError, match="pairs: expected prompts of one length"):
        multiplication_prompts(cut, [(3, 5), (12, 5)])
    with pytest.raises(DTypeError, match="pairs: expected pairs"):
        multiplication_prompts(cut, [3, 5])
    with pytest.raises(ValueError, match="pairs: expected at least one"):
        multiplication_prompts(cut, [])
    with pytest.raises(ValueError, match="template: expected"):
        multiplication_prompts(cut, PAIRS, template="{a} * {b} =")
    with pytest.raises(DTypeError, match="tokenizer: expected"):
        multiplication_prompts(str.split, PAIRS)
