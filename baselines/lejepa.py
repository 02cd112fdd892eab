"""LeJEPA (Balestriero and LeCun, arXiv 2511.08544): standard Gaussian outputs do not collapse.

    python train.py --method lejepa
    python train.py --method lejepa --sigreg 0       without its regulariser

    T(u) = N ∫ |φ_u(t) - exp(-t²/2)|² w(t) dt           φ_u(t) = Σ_n exp(i t u_n) / N; Epps-Pulley
    SIGReg(z) = mean of T(z a) over random directions a of length 1
    L = (1 - λ) mean_v ‖z_v - z̄‖² / d + λ mean_v SIGReg(z_v)     z̄: the mean of an image's views v

What differs from SimSiam: one regulariser prevents a collapse, without stop-gradient, predictor,
momentum encoder or negatives. φ_u is the characteristic function of the projections u = z a in the
batch, exp(-t²/2) that of a standard Gaussian. Outputs are an isotropic Gaussian if their projection
on every direction is a standard one (Cramér and Wold); a point or a line is far from that. VICReg
constrains second moments only: stds of at least 1, covariances of 0. LeJEPA is the newest of the
methods here.

With λ = 0 the outputs shrink to a point (shapes, seed 0: length 0.02 instead of 14.1), and kNN ends
at 21 % (untrained 16, λ = 0.02: 96). std and rank do not show it, as they ignore the scale of z.

here: 256 directions, new ones at each step; t from -3 to 3, w(t) = exp(-t²/2) and λ = 0.02, as in
the minimal example of rbalestr-lab/lejepa. The paper recommends 1024, ±5 and 0.05 (its Sec. 6.1).
here: the squared distance is a mean over channels, as in their code; the formula has the sum.
here: two views of the same kind, each with BN statistics of its own (the example: four, shared).
here: the recipe's d and number of layers, the last without bias (the example: 16, three, with
bias); SimSiam's views, SGD and recipe (LeJEPA: AdamW). Nothing was tuned.
"""

import torch
import torch.nn.functional as F
from torch import nn

from augment import to_device
from baselines.barlow import expander
from utils.parallel import gather

DIRECTIONS = 256
LIMIT, KNOTS = 3.0, 17  # the integral uses 17 values of t from 0 to 3


def epps_pulley(u):
    """How far u is from a standard Gaussian: N ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt, |t| ≤ 3.

    u: (N, M), M samples of N numbers   returns: (M,), at least 0; 1.05 on average if they are
    standard Gaussian, and of the order of N if they are not
    φ(t) = Σ_n exp(i t u_n) / N is the characteristic function of a sample.
    """
    t = torch.linspace(0, LIMIT, KNOTS, device=u.device, dtype=u.dtype)
    gaussian = torch.exp(-t.square() / 2)  # a Gaussian's φ(t), and also the weight w(t)
    tu = u[..., None] * t  # (N, M, 17)
    # exp(i t u) = cos(t u) + i sin(t u), and a Gaussian's imaginary part is 0.
    gap = (tu.cos().mean(dim=0) - gaussian).square() + tu.sin().mean(dim=0).square()  # (M, 17)
    # The gap at -t is that at t, so the integral is twice that from 0.
    return 2 * len(u) * torch.trapezoid(gap * gaussian, t)


def directions(d):
    """Random directions, uniform on the sphere: (d, DIRECTIONS), on the CPU."""
    return F.normalize(torch.randn(d, DIRECTIONS), dim=0)


class LeJEPA(nn.Module):
    """LeJEPA without its optimiser: two views in, loss and projections out.

    backbone: a network (N, 3, H, W) -> (N, backbone.num_features)   dim: d
    proj_layers: depth of the projector   sigreg: λ in [0, 1]   h is the identity
    """

    def __init__(self, backbone, dim, proj_layers, sigreg=0.02):
        super().__init__()
        self.backbone = backbone
        self.projector = expander(backbone.num_features, dim, proj_layers)
        self.h = nn.Identity()
        self.sigreg = sigreg

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def forward(self, x1, x2):
        """Two views x1, x2 (N, 3, H, W) -> the loss (), and z1 (N, d) to be measured."""
        z1, z2 = self.f(x1), self.f(x2)  # (N, d)
        a = to_device(directions(z1.shape[1]).to(z1.dtype), z1.device)
        y1, y2 = gather(z1), gather(z2)  # all of the batch
        T = (epps_pulley(y1 @ a).mean() + epps_pulley(y2 @ a).mean()) / 2
        invariance = F.mse_loss(y1, y2) / 4  # ‖z1 - z̄‖ = ‖z2 - z̄‖ = ‖z1 - z2‖ / 2
        return (1 - self.sigreg) * invariance + self.sigreg * T, z1
