"""SimCLR (Chen et al., arXiv 2002.05709): the other images of the batch are negative samples.

    python train.py --method simclr
    python train.py --method simclr --predictor mlp --stopgrad     SimSiam's Sec. 6.2

    L = -log(exp(p_i·z_j / T) / Σ_{k ≠ i} exp(p_i·z_k / T))     the mean over all 2N views i

    j is the other view of i's image; rows have length 1; p = h(z), or p = z without predictor

What differs: views of different images are pushed apart, which prevents the collapse. SimSiam is
"SimCLR without negatives" (Sec. 6.2). That section also gives SimCLR a predictor on one branch and
a stop-gradient on the other. Neither helps (ImageNet: 66.5 plain, 66.4 with the predictor, 66.0
with both): presumably, the paper says, they belong to another optimisation problem.

here: T = 0.5 for all data, from SimCLR's CIFAR-10 runs (its App. B.9; on ImageNet 0.1).
here: two passes through f, where SimCLR has one: each view has BN statistics of its own.
here: a projector of two layers (three in SimSiam's reproduction, App. C).
here: SimSiam's views, SGD and recipe (SimCLR on ImageNet: twice the jitter, LARS, batch 4096).
"""

import torch
import torch.nn.functional as F
from torch import nn

from simsiam import linear_bn_relu, prediction_mlp
from utils.parallel import gather

T = 0.5  # temperature


def nt_xent(p, z):
    """The normalised temperature-scaled cross-entropy, Eq. 1 of SimCLR, averaged over all rows i.

    -log(exp(cos(p_i, z_j) / T) / Σ_{k ≠ i} exp(cos(p_i, z_k) / T)), j the other view of i's image
    p, z: (2N, d); rows i and i + N are the two views of an image   returns: (), above 0
    """
    logits = F.normalize(p, dim=1) @ F.normalize(z, dim=1).T / T  # (2N, 2N)
    # A view must not be its own candidate: without predictor its cosine with itself is 1, the most.
    itself = torch.eye(len(p), dtype=torch.bool, device=p.device)
    other = torch.arange(len(p), device=p.device).roll(len(p) // 2)  # N, ..., 2N - 1, 0, ..., N - 1
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), other)


class SimCLR(nn.Module):
    """SimCLR without its optimiser: two views in, loss and projections out.

    backbone: a network (N, 3, H, W) -> (N, backbone.num_features)   dim: d
    pred_dim: width of h's hidden layer, d / 4 if None   predictor: "none" or "mlp"
    stopgrad: whether z is a constant to the gradient
    """

    def __init__(self, backbone, dim=128, pred_dim=None, predictor="none", stopgrad=False):
        super().__init__()
        c = backbone.num_features
        self.backbone = backbone
        self.projector = nn.Sequential(*linear_bn_relu(c, c, bn=True, relu=True),
                                       *linear_bn_relu(c, dim, bn=True, relu=False))
        mlp = predictor == "mlp"
        self.h = prediction_mlp(dim, pred_dim or dim // 4) if mlp else nn.Identity()
        self.stopgrad = stopgrad

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def forward(self, x1, x2):
        """Two views x1, x2 (N, 3, H, W) -> the loss (), and z1 (N, d) to be measured."""
        z1, z2 = self.f(x1), self.f(x2)  # (N, d)
        # gather: the candidates are those of the whole batch, on however many GPUs it is.
        p, z = (torch.cat([gather(v1), gather(v2)])  # (2N, d)
                for v1, v2 in ((self.h(z1), self.h(z2)), (z1, z2)))
        # SimCLR does not need the stop-gradient: if all outputs were the same, all 2N - 1
        # candidates would be equally likely, and the loss high.
        return nt_xent(p, z.detach() if self.stopgrad else z), z1
