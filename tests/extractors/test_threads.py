"""What is extracted does not depend on how many threads the networks are given: engines share the cores out unlike."""

import numpy as np
import torch

from nmcl.extractors.autoencoder import AutoencoderSettings, train_autoencoder
from nmcl.extractors.threads import threads
from nmcl.extractors.visual import VisualExtractor, VisualSettings
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import Clip, State


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(0)
    clips = [Clip(frames=rng.integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)) for n in (8, 3)]
    frames = rng.normal(size=(300, 513)).astype(np.float32)
    little = AutoencoderSettings(epochs=0, fine_tune_epochs=0, min_steps=0)
    autoencoder, _ = train_autoencoder(frames, little, silent)
    before = torch.get_num_threads()
    found = []
    for n in (1, 2, 3):
        with threads(n):
            visual = VisualExtractor("efficientnet_lite0", VisualSettings())
            found.append((visual.extract(clips, State()).tobytes(), autoencoder.encode(frames).tobytes()))
    assert found[0] == found[1] == found[2]
    assert torch.get_num_threads() == before
