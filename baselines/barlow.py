"""Barlow Twins (Zbontar et al., arXiv 2103.03230): make the channels of two views the same, and
different from each other.

    python train.py --method barlow

    C_ij = mean over the batch of z1_i z2_j, channels of mean 0, variance 1    (d, d), in [-1, 1]
    L = (sum over i of (1 - C_ii)^2 + lambda sum over i != j of C_ij^2) / d

It came after SimSiam. No negatives, no predictor, no stop-gradient, no momentum encoder: constant
outputs are no minimum, for they have no variance to divide by, and equal channels cost the second
term, which keeps the outputs from the dimensional collapse to which the std of Fig. 2 is blind.
here: divided by d, so that SimSiam's SGD and recipe fit (LARS, batch 2048); the recipe's d and
layers (8192, three).
"""

import torch.nn.functional as F
from torch import nn

from simsiam import fc

LAMBDA = 0.005


def redundancy(z1, z2):
    """The loss of two views' projections, (N, d) each: (), at least 0, Eq. 1 there over d."""
    N, d = z1.shape
    z1, z2 = (F.batch_norm(z, None, None, training=True) for z in (z1, z2))
    C = z1.T @ z2 / N  # (d, d), Eq. 2 there
    on, off = (1 - C.diagonal()).square().sum(), C.square().sum() - C.diagonal().square().sum()
    return (on + LAMBDA * off) / d


class BarlowTwins(nn.Module):
    """Two views in, loss out.

    backbone: a network with (N, backbone.features) outputs   dim, proj_layers: the head
    """

    views = 2

    def __init__(self, backbone, dim, proj_layers):
        super().__init__()
        self.backbone = backbone
        widths = [backbone.features] + [dim] * (proj_layers - 1)
        hidden = (fc(a, b, True, relu=True) for a, b in zip(widths, widths[1:]))
        self.projector = nn.Sequential(*sum(hidden, []), nn.Linear(dim, dim, bias=False))
        self.h = nn.Identity()

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def forward(self, x1, x2):
        """One pair of views, (N, 3, H, W) each -> loss (), projections z1 (N, d)."""
        z1, z2 = self.f(x1), self.f(x2)
        return redundancy(z1, z2), z1
