"""SimCLR (Chen et al., arXiv 2002.05709): the other images of the batch are negative samples.

    python train.py --method simclr
    python train.py --method simclr --predictor mlp --stopgrad     SimSiam's Sec. 6.2

    L = -log(exp(p_i.z_j / T) / sum over k != i of exp(p_i.z_k / T)), averaged over all 2N views i,
    j the other view of the same image; p = h(z), and h the identity unless --predictor mlp

SimSiam's Sec. 6.2 adds its predictor to one branch and its stop-gradient to the other (ImageNet:
66.5 plain, 66.4, 66.0 with both), and concludes that they serve another problem than this one, the
alternation of its Sec. 5.
here: T = 0.5 as in SimCLR's CIFAR-10 runs (App. B.9 there); two passes where it has one, so that
each view has BN statistics of its own; two layers in the projector (three in SimSiam's
reproduction); SimSiam's SGD and recipe (LARS, batch 4096).
"""

import torch
import torch.nn.functional as F
from torch import nn

from simsiam import fc, prediction_mlp

T = 0.5  # temperature


def nt_xent(p, z):
    """The normalised temperature-scaled cross-entropy, Eq. 1 there.

    p, z: (2N, d), whose rows i and i + N belong to one image   returns: (), above 0
    """
    logits = F.normalize(p, dim=1) @ F.normalize(z, dim=1).T / T  # (2N, 2N)
    own = torch.eye(len(p), dtype=torch.bool, device=p.device)
    other = torch.arange(len(p), device=p.device).roll(len(p) // 2)
    return F.cross_entropy(logits.masked_fill(own, -torch.inf), other)


class SimCLR(nn.Module):
    """Two views in, loss out.

    backbone: a network with (N, backbone.features) outputs   dim, pred_dim: the heads
    predictor: "none" or "mlp"   stopgrad: whether z is a constant to the gradient
    """

    views = 2

    def __init__(self, backbone, dim=128, pred_dim=None, predictor="none", stopgrad=False):
        super().__init__()
        c = backbone.features
        self.backbone = backbone
        self.projector = nn.Sequential(*fc(c, c, True, relu=True), *fc(c, dim, True, relu=False))
        mlp = predictor == "mlp"
        self.h = prediction_mlp(dim, pred_dim or dim // 4) if mlp else nn.Identity()
        self.stopgrad = stopgrad

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def forward(self, x1, x2):
        """One pair of views, (N, 3, H, W) each -> loss (), projections z1 (N, d)."""
        z1, z2 = self.f(x1), self.f(x2)
        p, z = torch.cat([self.h(z1), self.h(z2)]), torch.cat([z1, z2])
        return nt_xent(p, z.detach() if self.stopgrad else z), z1
