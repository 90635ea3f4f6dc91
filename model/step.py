"""One training step: forward, backward, clipping and optimiser. On a GPU it can be recorded as a CUDA graph."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nmcl.model.base import Features, Mask

Loss = Callable[[Features, Mask, Tensor], Tensor]
"""Function from a batch, with labels of shape (N,), int64, to its mean loss, a scalar."""

EAGER_STEPS = 3
"""Eager steps before recording: in the first ones libraries choose kernels and the optimiser creates its state."""


class Step:
    """A training step of a network on one batch."""

    def __init__(
        self,
        loss: Loss,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        gradient_clip: float,
    ) -> None:
        """Create a step that clips the norm of the gradient to `gradient_clip`."""
        self.loss = loss
        self.parameters = parameters
        self.optimizer = optimizer
        self.gradient_clip = gradient_clip

    def __call__(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Run a step and return the loss before it, a scalar on the device that is valid until the next call."""
        loss = self.loss(features, observed, label)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        self.optimizer.step()
        return loss.detach()


class RecordedStep(Step):
    """A training step recorded and replayed as a CUDA graph.

    A step of NMCL has some 700 small kernels, and executing them takes the GPU a fifth of the time that launching them
    one by one takes. Only batches of one size are replayed; others run eagerly. The recorded operations must not depend
    on the batch, and none may run on the CPU.
    """

    def __init__(self, step: Step, size: int) -> None:
        """Wrap `step`, whose optimiser must be `capturable`, for replay on batches of `size` rows."""
        super().__init__(step.loss, step.parameters, step.optimizer, step.gradient_clip)
        self.size = size
        self._n_eager = 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        if len(label) != self.size:
            return super().__call__(features, observed, label)
        if self._n_eager < EAGER_STEPS:
            self._n_eager += 1
            return self._aside(features, observed, label)
        if self._graph is None:
            self._record(features, observed, label)
        else:
            for kept, latest in zip(self._batch, _in_order(features, observed, label), strict=True):
                kept.copy_(latest)
        assert self._graph is not None
        self._graph.replay()
        return self._loss

    def _aside(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Run an eager step in a separate stream, as required before a recording."""
        present = torch.cuda.current_stream()
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream):
            loss = super().__call__(features, observed, label)
        present.wait_stream(self._stream)
        return loss

    def _record(self, features: Features, observed: Mask, label: Tensor) -> None:
        """Record the step; the parameters do not change before the first replay."""
        self._batch = _in_order(features, observed, label)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = super().__call__(features, observed, label)


def _in_order(features: Features, observed: Mask, label: Tensor) -> list[Tensor]:
    return [*features.values(), *observed.values(), label]
