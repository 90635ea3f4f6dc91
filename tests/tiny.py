"""Tiny models with random weights, saved by the libraries whose format they have."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

TIMM_SIDE = 160
"""Side of the pictures that the models of `timm_model` take, in pixels."""
CLIP_SIDE = 48
"""Side of the pictures that the model of `clip_model` takes, in pixels."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="nmcl-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def timm_model(name: str = "test_vit.r160_in1k") -> tuple[str, str]:
    """Return a timm model of fewer than 500,000 weights and the file of its weights."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = _folder() / f"{name}.safetensors"
    save_file(timm.create_model(name, pretrained=False).state_dict(), path)
    return name, str(path)


@cache
def sentence_model() -> str:
    """Return the folder of a BERT with a vocabulary of letters, and mean pooling: 32 dimensions."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokenizer = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    bert = _saved(BertModel, config, tokenizer)
    return _saved_whole(SentenceTransformer(modules=[Transformer(bert), Pooling(32)], device="cpu"))


@cache
def clip_model() -> str:
    """Return the folder of a CLIP of texts and pictures: 24 dimensions."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    pieces = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={"vocab_size": 54, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1, **small},
        vision_config={"image_size": CLIP_SIDE, "patch_size": 16, **small},
        projection_dim=24,
    )
    crop = {"height": CLIP_SIDE, "width": CLIP_SIDE}
    processor = CLIPProcessor(
        CLIPImageProcessor(size={"shortest_edge": CLIP_SIDE}, crop_size=crop),
        CLIPTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]),
    )
    return _saved_whole(SentenceTransformer(modules=[Transformer(_saved(CLIPModel, config, processor))], device="cpu"))


def _saved(kind: Any, config: Any, *others: Any) -> str:
    """Save a model with random weights and its tokenizer as `transformers` does."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    folder = str(_folder())
    for part in (kind(config), *others):
        part.save_pretrained(folder)
    return folder


def _saved_whole(model: Any) -> str:
    folder = str(_folder())
    model.save(folder)
    return folder
