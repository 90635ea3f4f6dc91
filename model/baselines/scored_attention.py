"""Row-dependent attention of each category to each feature, without materialising all attended features.

Category k weights a row x by a scoring function of both:

    a_k = sigmoid(W_x x + W_c c_k),  psi_k = a_k * x,  theta_k = ReLU(W psi_k + b)...,  logit_k = z_k . theta_k + o_k

The first equation is the difference from the memory of eq. 15, which does not depend on the row. The tensor of all psi
has the shape (N, K, D), 450 MB for 256 rows at the paper's size, and autograd would keep several of that size. Here a
few categories are processed at a time and recomputed in the backward pass.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nmcl.model.layers import categories_per_chunk, xavier_linear


class ScoredAttention(nn.Module):
    """Classifier with row-dependent attention per category, from (N, D) to logits (N, K).

    The paper has a sentence and no formula. Interpretation: c_k is one-hot, so W_c c_k is a free vector per category,
    initialised to zero, so that all categories start with the same attention; the categories share the layers after psi
    and their dropout.
    """

    def __init__(self, n_features: int, widths: Sequence[int], n_classes: int, dropout: float) -> None:
        """Create the classifier; `widths` are those of the hidden layers after the attention, at least one."""
        super().__init__()
        self.widths = list(widths)
        self.row_score = xavier_linear(n_features, n_features)
        self.category_score = nn.Parameter(torch.zeros(n_classes, n_features))
        self.hidden = nn.ModuleList(
            xavier_linear(n_in, n_out) for n_in, n_out in zip([n_features, *widths], widths, strict=False)
        )
        self.class_vectors = xavier_linear(widths[-1], n_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        row_score = self.row_score(x)
        keep = [self.dropout(x.new_ones(len(x), width)) for width in self.widths]
        n_classes = len(self.category_score)
        step = categories_per_chunk(len(x), x.shape[1], n_classes, x.device.type)
        parts = [
            # Nothing random happens inside, so no generator state needs to be saved.
            checkpoint(
                self._logits,
                x,
                row_score,
                self.category_score[start : start + step],
                self.class_vectors.weight[start : start + step],
                keep,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for start in range(0, n_classes, step)
        ]
        return torch.cat(parts, dim=1) + self.class_vectors.bias

    def _logits(
        self, x: Tensor, row_score: Tensor, category_score: Tensor, vectors: Tensor, keep: Sequence[Tensor]
    ) -> Tensor:
        """Return logits of k categories without the offset.

        `category_score` has shape (k, D), `vectors` (k, H), each `keep` (N, H).
        """
        theta = torch.sigmoid(row_score[:, None, :] + category_score) * x[:, None, :]
        for layer, kept in zip(self.hidden, keep, strict=True):
            theta = torch.relu(layer(theta)) * kept[:, None, :]
        return torch.einsum("nkh,kh->nk", theta, vectors)
