"""One step of gradient descent: forward, backward, clipping, optimiser. On a GPU it can be recorded and replayed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nmcl.model.base import Features, Mask

Loss = Callable[[Features, Mask, Tensor], Tensor]
"""From a batch, with labels of shape (N,), int64, to its mean loss, a scalar."""

EAGER_STEPS = 3
"""Before a step is recorded: libraries choose their kernels and the optimiser makes its state in the first ones."""


class Step:
    """Teaches a network one batch."""

    def __init__(
        self,
        loss: Loss,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        gradient_clip: float,
    ) -> None:
        """Args: gradient_clip: largest norm of the gradient."""
        self.loss = loss
        self.parameters = parameters
        self.optimizer = optimizer
        self.gradient_clip = gradient_clip

    def __call__(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """The loss before the step, a scalar on the device; valid until the next call."""
        loss = self.loss(features, observed, label)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        self.optimizer.step()
        return loss.detach()


class RecordedStep(Step):
    """The same on CUDA, as a graph: a step of NMCL is some 700 small pieces of work, which take the GPU a fifth of the
    time that it takes to ask for them one by one.

    Only batches of one size are replayed, others are done eagerly. What the recorded work is must not depend on the
    batch, and nothing in it may run on the CPU.
    """

    def __init__(self, step: Step, size: int) -> None:
        """Args: step: what is recorded; its optimiser must be `capturable`. size: rows of the batches replayed."""
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
        """A step in a stream of its own, as what comes before a recording must be."""
        present = torch.cuda.current_stream()
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream):
            loss = super().__call__(features, observed, label)
        present.wait_stream(self._stream)
        return loss

    def _record(self, features: Features, observed: Mask, label: Tensor) -> None:
        """Nothing is learnt of this batch before the first replay."""
        self._batch = _in_order(features, observed, label)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = super().__call__(features, observed, label)


def _in_order(features: Features, observed: Mask, label: Tensor) -> list[Tensor]:
    return [*features.values(), *observed.values(), label]
