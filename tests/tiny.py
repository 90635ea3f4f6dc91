"""Tiny models with random weights, saved by the libraries whose format they have."""

import atexit
import math
import shutil
import tempfile
from functools import cache
from itertools import pairwise
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


@cache
def clap_model() -> str:
    """Return the folder of a CLAP of texts and sound of at most a second at 16 kHz: 24 dimensions."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizerFast

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS, *(f"\u0120{letter}" for letter in LETTERS)]
    config = ClapConfig(
        text_config={
            "vocab_size": len(pieces),
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
        },
        audio_config={
            "window_size": 2,
            "num_mel_bins": 64,
            "spec_size": 64,
            "num_classes": 5,
            "hidden_size": 64,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "patch_embeds_hidden_size": 32,
            "num_hidden_layers": 2,
        },
        projection_dim=24,
    )
    sound = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=16_000,
        max_length_s=1,
        fft_window_size=1024,
        hop_length=320,
        frequency_min=50,
        frequency_max=8000,
        truncation="rand_trunc",
    )
    processor = ClapProcessor(sound, RobertaTokenizerFast(vocab={p: i for i, p in enumerate(pieces)}, merges=[]))
    return _saved_whole(SentenceTransformer(modules=[Transformer(_saved(ClapModel, config, processor))], device="cpu"))


@cache
def video_model() -> str:
    """Return the folder of a VideoMAE of four frames with mean pooling: 32 dimensions."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor

    config = VideoMAEConfig(
        image_size=CLIP_SIDE,
        patch_size=16,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    crop = {"height": CLIP_SIDE, "width": CLIP_SIDE}
    processor = VideoMAEVideoProcessor(size={"shortest_edge": CLIP_SIDE}, crop_size=crop)
    mae = _saved(VideoMAEModel, config, processor)
    return _saved_whole(SentenceTransformer(modules=[Transformer(mae), Pooling(32)], device="cpu"))


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


@cache
def tagger() -> tuple[str, str]:
    """Return a file in the layout of PANNs' Cnn14_16k with narrow layers, and the names of its 5 classes."""
    import librosa
    import torch

    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int) -> None:
        tensors[name] = torch.randn(shape, generator=generator) / max(1, math.prod(shape[1:])) ** 0.5

    def add_norm(name: str, width: int) -> None:
        for part in ("weight", "running_var"):
            tensors[f"{name}.{part}"] = torch.rand(width, generator=generator) + 0.5
        for part in ("bias", "running_mean"):
            tensors[f"{name}.{part}"] = torch.randn(width, generator=generator) / 4
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(1)

    for part in ("real", "imag"):
        tensors[f"spectrogram_extractor.stft.conv_{part}.weight"] = torch.zeros(257, 1, 512)
    mel = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=64, fmin=50, fmax=8000)
    tensors["logmel_extractor.melW"] = torch.from_numpy(mel.T.copy())
    add_norm("bn0", 64)
    widths = (1, 4, 4, 6, 6, 8, 8)
    for i, (before, width) in enumerate(pairwise(widths), start=1):
        for j, n_in in ((1, before), (2, width)):
            add(f"conv_block{i}.conv{j}.weight", width, n_in, 3, 3)
            add_norm(f"conv_block{i}.bn{j}", width)
    for name, n_out in (("fc1", 12), ("fc_audioset", 5)):
        add(f"{name}.weight", n_out, 8 if name == "fc1" else 12)
        add(f"{name}.bias", n_out)
    folder = _folder()
    torch.save({"iteration": 1, "model": tensors}, folder / "Cnn14_16k.pth")
    names = 'index,mid,display_name\n0,/m/a,"Speech"\n1,/m/b,"Male speech, man speaking"\n2,/m/c,"Music"\n'
    (folder / "classes.csv").write_text(names + '3,/m/d,"Violin"\n4,/m/e,"Silence"\n')
    return str(folder / "Cnn14_16k.pth"), str(folder / "classes.csv")
