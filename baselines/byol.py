"""BYOL (Grill et al., arXiv 2006.07733): SimSiam whose targets come from a momentum encoder.

    python train.py --method byol                    two minutes on a laptop, as train.py
    diff simsiam.py baselines/byol.py                the lesson: what SimSiam leaves away

    f_t   target encoder: its weights follow those of f, w_t <- m w_t + (1 - m) w
    L = D(p1, f_t(x2)) / 2 + D(p2, f_t(x1)) / 2,   p = h(f(x)), no gradient into f_t

No negative pairs. SimSiam's Sec. 6.2: with m = 0 (`--encoder-momentum 0`) this is SimSiam but for
its heads, and does not collapse either.
here: m = 0.95 on shapes, whose run has 384 steps, else 0.99 (BYOL's of 100 epochs), and it does not
rise to 1; heads of width 512 (4096); SimSiam's SGD and recipe (LARS, base lr 0.45, decay 1e-6).
"""

import copy

import torch
from torch import nn

from simsiam import D, fc


def mlp(c_in, hidden, dim):
    """Either head: (N, c_in) -> (N, dim), BN on the hidden layer only (Sec. 3.3 there)."""
    return nn.Sequential(*fc(c_in, hidden, True, relu=True), *fc(hidden, dim, False, relu=False))


class BYOL(nn.Module):
    """Two views in, loss out.

    backbone: a network with (N, backbone.features) outputs   encoder_momentum: m in [0, 1)
    dim, pred_dim: width of both heads' outputs, and of their hidden layers
    """

    views = 2

    def __init__(self, backbone, encoder_momentum, dim=256, pred_dim=512):
        super().__init__()
        self.backbone = backbone
        self.projector = mlp(backbone.features, pred_dim, dim)
        self.h = mlp(dim, pred_dim, dim)
        self.target = copy.deepcopy(nn.Sequential(self.backbone, self.projector))
        self.target.requires_grad_(False)
        self.m = encoder_momentum

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    @torch.no_grad()
    def f_t(self, x):
        """The target encoder; BN by the batch, as in f."""
        return self.target(x)

    @torch.no_grad()
    def follow(self):
        """w_t <- m w_t + (1 - m) w, for the weights w that the last step has left."""
        online = nn.Sequential(self.backbone, self.projector).parameters()
        for w_t, w in zip(self.target.parameters(), online, strict=True):
            w_t.lerp_(w, 1 - self.m)

    def forward(self, x1, x2):
        """One pair of views, (N, 3, H, W) each -> loss (), projections z1 (N, d)."""
        self.follow()
        z1, z2 = self.f(x1), self.f(x2)
        p1, p2 = self.h(z1), self.h(z2)
        return D(p1, self.f_t(x2)) / 2 + D(p2, self.f_t(x1)) / 2, z1
