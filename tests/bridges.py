"""Models to collect activations from: one that needs no package, and tiny random ones that TransformerLens boots."""

import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

HOOK = "blocks.1.hook_resid_pre"
WIDTH, VOCABULARY = 7, 31


class FakeBridge:
    """What `collect` asks of a TransformerBridge, over an embedding: token t at position p gives table[t] + p."""

    def __init__(self, *, scale: float = 1.0) -> None:
        self.original_model = torch.nn.Module()
        table = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(0)) * scale
        self.original_model.register_buffer("table", table)
        self.table = table
        self.cfg = SimpleNamespace(model_name="fake", device="cpu", n_layers=3, n_ctx=64, d_vocab=VOCABULARY)
        self.hook_dict = {HOOK: None, "blocks.2.hook_resid_pre": None, "blocks.1.attn.hook_pattern": None}
        self.tokenizer = None
        self.training = True
        self.calls: list[dict[str, Any]] = []

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def run_with_cache(self, tokens: torch.Tensor, **options: Any) -> tuple[None, dict[str, torch.Tensor]]:
        assert not self.training
        self.calls.append(options)
        values = self.table[tokens] + torch.arange(tokens.shape[1])[None, :, None]
        hook = options["names_filter"]
        if hook == "blocks.2.hook_resid_pre":
            return None, {}
        return None, {hook: values[:, None] if hook.endswith("pattern") else values}


def texts_of_ids(count: int, *, longest: int = 9, seed: int = 1) -> list[list[int]]:
    """Random token ids, in texts of random length."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(0, VOCABULARY, (size,), generator=generator).tolist() for size in sizes]


def write_llama(folder: Path) -> Path:
    """A random LLaMA of three layers, 16 wide, with a byte-level tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = _byte_level_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_bert(folder: Path) -> Path:
    """A random BERT of three layers, 16 wide, without the head that masked language models have."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, "the", "cat", "##s", "##at", "."]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def _byte_level_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "</s>", *letters, "##", "Ġt", "Ġth", "Ġthe"]
    merges = [("#", "#"), ("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e")]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
