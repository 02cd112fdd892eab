"""VICReg (Bardes et al., arXiv 2105.04906): variance, invariance, covariance, a term for each.

    python train.py --method vicreg

    s = Σ_n Σ_i (z1_ni - z2_ni)² / (N d)                    invariance: both views agree; Eq. 5
    v(z) = Σ_i max(0, 1 - std_i) / d                        variance: no channel is constant; Eq. 1
    c(z) = Σ_i Σ_{j ≠ i} cov_ij² / d                        covariance: channels differ; Eq. 4
    L = s + v(z1) + v(z2) + (c(z1) + c(z2)) / 25            Eq. 6, divided by 25

What differs: the loss itself rules out both collapses, in each view separately: v the complete, c
the dimensional one. SimSiam has no such terms, and Barlow Twins has one matrix for both. VICReg
is newer than SimSiam.

here: s is a mean over the channels too, as in the authors' Algorithm 1 (Eq. 5 has the sum).
here: v(z1) + v(z2) as in Eq. 6; the authors' code has half of that, the mean of the two.
here: 25 s + 25 v + 1 c is divided by 25, so that SimSiam's SGD and recipe fit (VICReg: LARS,
batch 2048).
here: SimSiam's views (VICReg's are also solarised).
here: the recipe's d and number of layers (VICReg: 8192, three).
"""

import torch.nn.functional as F
from torch import nn

from baselines.barlow import expander
from utils.parallel import gather


def variance(z):
    """v: how far the channels' stds fall short of 1: the mean of max(0, 1 - √(var_i + 1e-4)).

    z: (N, d)   returns: () in [0, 0.99]; variances over the batch have the denominator N - 1
    """
    # A std above 1 is not rewarded, or the outputs would grow without limit. The 1e-4 keeps NaN out
    # of the gradient at variance 0, where √ has infinite slope. It also weakens the force that
    # spreads outputs whose std is far below 0.01.
    return F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean()


def covariance(z):
    """c: Σ_i Σ_{j ≠ i} cov_ij² / d, the squared covariances of different channels.

    z: (N, d)   returns: () ≥ 0; covariances over the batch have the denominator N - 1
    """
    z = z - z.mean(dim=0)
    cov = z.T @ z / (len(z) - 1)  # (d, d)
    return (cov.square().sum() - cov.diagonal().square().sum()) / z.shape[1]


class VICReg(nn.Module):
    """VICReg without its optimiser: two views in, loss and projections out.

    backbone: a network (N, 3, H, W) -> (N, backbone.num_features)   dim: d
    proj_layers: depth of the projector   h is the identity
    """

    def __init__(self, backbone, dim, proj_layers):
        super().__init__()
        self.backbone = backbone
        self.projector = expander(backbone.num_features, dim, proj_layers)
        self.h = nn.Identity()

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def forward(self, x1, x2):
        """Two views x1, x2 (N, 3, H, W) -> the loss (), and z1 (N, d) to be measured."""
        z1, z2 = self.f(x1), self.f(x2)  # (N, d)
        y1, y2 = gather(z1), gather(z2)  # all of the batch
        s = F.mse_loss(y1, y2)
        v, c = variance(y1) + variance(y2), covariance(y1) + covariance(y2)
        return s + v + c / 25, z1
