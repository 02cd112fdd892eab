"""VICReg (Bardes et al., arXiv 2105.04906): variance, invariance, covariance, a term for each.

    python train.py --method vicreg

    s = mean squared distance of z1 and z2, over images and channels
    v = mean over channels of max(0, 1 - std)          c = sum over i != j of cov_ij^2 / d
    L = s + v(z1) + v(z2) + (c(z1) + c(z2)) / 25

It came after SimSiam. What Barlow Twins does with one matrix is done openly: v forbids complete
collapse, c dimensional collapse, and the branches need nothing in common.
here: s is a mean over the channels too, as in Algorithm 1 there (its Eq. 5 is a sum); 25 s + 25 v +
1 c is divided by 25, so that SimSiam's SGD and recipe fit (LARS, batch 2048); the recipe's d and
layers (8192, three).
"""

import torch
import torch.nn.functional as F
from torch import nn

from simsiam import fc


def variance(z):
    """v: how far the channels' stds fall short of 1.   z: (N, d)   returns: () in [0, 1]"""
    return F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean()


def covariance(z):
    """c: the squared covariances of different channels, over d.   z: (N, d)   returns: ()"""
    z = z - z.mean(dim=0)
    cov = z.T @ z / (len(z) - 1)  # (d, d)
    return (cov.square().sum() - cov.diagonal().square().sum()) / z.shape[1]


class VICReg(nn.Module):
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
        s = F.mse_loss(z1, z2)
        v, c = variance(z1) + variance(z2), covariance(z1) + covariance(z2)
        return s + v + c / 25, z1
