"""Networks on a CPU may be deleted as soon as they have answered."""

import subprocess
import sys

DELETED = """
import numpy as np
import torch
from nmcl.extractors.network import _on_cpu

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, pixels):
        return self.layer(pixels.permute(0, 3, 1, 2).float()).mean((2, 3))

torch.set_num_threads(2)
network = Network().eval()
frames = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
with torch.inference_mode():
    expected = network(torch.from_numpy(frames)).numpy()
for _ in range(40):
    run = _on_cpu(network, 16, False)
    for n in (1, 16, 17, 33, 40) * 4:
        np.testing.assert_allclose(run(frames[:n]), expected[:n], rtol=1e-3, atol=1e-2)
    del run
"""


def test_a_network_that_is_deleted_at_once_neither_hangs_nor_crashes() -> None:
    """In a process of its own, which can be ended if it hangs: threads of an inference queue did."""
    subprocess.run([sys.executable, "-c", DELETED], check=True, timeout=120)
