"""Barlow Twins (Zbontar et al., arXiv 2103.03230): decorrelated channels that agree across views.

    python train.py --method barlow

    C_ij = Σ_n z1_ni z2_nj / N                               channels with mean 0, variance 1; Eq. 2
    L = (Σ_i (1 - C_ii)² + λ Σ_i Σ_{j ≠ i} C_ij²) / d        Eq. 1

What differs: it compares channels over the batch, where SimSiam compares images: each channel must
be the same in both views, and different from the others. There are no negatives, no predictor, no
stop-gradient and no momentum encoder. A constant output is not a minimum, because a channel without
variance is not correlated with anything. The second term penalises copies of a channel and prevents
the dimensional collapse that Fig. 2's std does not show. Barlow Twins is newer than SimSiam.

here: L is divided by d, so that SimSiam's SGD and recipe fit (the paper: not scaled, LARS, batch
2048; its code, facebookresearch/barlowtwins, for the paper's numbers: multiplied by 0.024).
here: SimSiam's views for both (Barlow Twins: one always blurred, the other seldom, but at times
solarised).
here: the recipe's d and number of layers (Barlow Twins: 8192, three).
"""

import torch.nn.functional as F
from torch import nn

from simsiam import linear_bn_relu
from utils.parallel import gather

LAMBDA = 0.005  # λ, Sec. 2.2 of Barlow Twins


def redundancy(z1, z2):
    """How far the correlations C between the channels of two views are from the identity matrix.

    (Σ_i (1 - C_ii)² + λ Σ_i Σ_{j ≠ i} C_ij²) / d, Eq. 1 of Barlow Twins divided by d
    C_ij: the correlation over the batch of channel i of z1 and channel j of z2, Eq. 2
    z1, z2: (N, d)   returns: () ≥ 0
    """
    N, d = z1.shape
    # BN without γ and β gives every channel mean 0 and variance 1: a product is a correlation.
    z1, z2 = (F.batch_norm(z, None, None, training=True) for z in (z1, z2))
    C = z1.T @ z2 / N  # (d, d)
    on, off = (1 - C.diagonal()).square().sum(), C.square().sum() - C.diagonal().square().sum()
    return (on + LAMBDA * off) / d


def expander(c_in, dim, depth):
    """The projector: (N, c_in) -> (N, dim); `depth` layers, BN and ReLU between them.

    VICReg calls it the expander, because its output, of width 8192, is wider than the features.
    """
    layers = []
    for width in [c_in] + [dim] * (depth - 2):
        layers += linear_bn_relu(width, dim, bn=True, relu=True)
    # A bare output: the loss itself deals with mean and variance of the channels.
    return nn.Sequential(*layers, nn.Linear(dim, dim, bias=False))


class BarlowTwins(nn.Module):
    """Barlow Twins without its optimiser: two views in, loss and projections out.

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
        return redundancy(gather(z1), gather(z2)), z1
