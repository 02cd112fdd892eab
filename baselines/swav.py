"""SwAV (Caron et al., arXiv 2006.09882): predict the other view's cluster, clustering as we go.

    python train.py --method swav
    python train.py --method swav --no-stopgrad          SimSiam's Sec. 6.2: on ImageNet it diverges

    s = z.c / (||z|| ||c||) scores against prototypes c     q = sinkhorn(s) codes, the targets
    p = s / T logits, or with --predictor mlp h(s / T)
    L = -q2 . log softmax(p1) / 2 - q1 . log softmax(p2) / 2

The codes give every prototype the same share of the batch; that prevents the collapse. Written as
SimSiam's Sec. 6.2 has it: the prototypes belong to the encoder and are normalised in it, with their
full gradient, and the codes are targets behind a stop-gradient.
here: two views and no smaller crops; 30 prototypes (3000 for ImageNet's 1000 classes), which learn
from the first step (frozen for an epoch); no queue; a projector of two layers of width 128 (2048,
and three layers in SimSiam's reproduction); SimSiam's SGD and recipe (LARS). The predictor's
outputs are not divided by T, of which the paper says nothing: unlike cosines they have no bounds,
and the loss rose to 240 when they were.
"""

import torch
import torch.nn.functional as F
from torch import nn

from simsiam import fc, prediction_mlp

T, PROTOTYPES = 0.1, 30


def sinkhorn(scores, eps=0.05, iterations=3):
    """Soft codes by Sinkhorn-Knopp, Sec. 3.1 there: alternately equal columns and equal rows.

    scores: (N, K) in [-1, 1]   returns: (N, K): every row sums to 1, every column to about N / K
    """
    q = torch.exp((scores - scores.max().detach()) / eps)
    for _ in range(iterations):
        q = q / q.sum(dim=0, keepdim=True)  # every prototype gets the same share
        q = q / q.sum(dim=1, keepdim=True)  # every image is given away once
    return q


class SwAV(nn.Module):
    """Two views in, loss out.

    backbone: a network with (N, backbone.features) outputs   dim, pred_dim: the heads
    predictor: "none" or "mlp"   stopgrad: whether the codes are constants to the gradient
    """

    views = 2

    def __init__(self, backbone, dim=128, pred_dim=None, predictor="none", stopgrad=True):
        super().__init__()
        c = backbone.features
        self.backbone = backbone
        self.projector = nn.Sequential(*fc(c, dim, True, relu=True), *fc(dim, dim, False, False))
        self.prototypes = nn.Linear(dim, PROTOTYPES, bias=False)
        mlp = predictor == "mlp"
        self.h = prediction_mlp(PROTOTYPES, pred_dim or dim // 4) if mlp else nn.Identity()
        self.stopgrad = stopgrad

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def scores(self, z):
        """Cosines with the prototypes: (N, d) -> (N, K)."""
        return F.linear(F.normalize(z, dim=1), F.normalize(self.prototypes.weight, dim=1))

    def D(self, p, s):
        """Cross-entropy of the codes of s and the logits p.   (N, K), (N, K) -> ()"""
        q = sinkhorn(s)
        q = q.detach() if self.stopgrad else q
        return -(q * F.log_softmax(p, dim=1)).sum(dim=1).mean()

    def forward(self, x1, x2):
        """One pair of views, (N, 3, H, W) each -> loss (), projections z1 (N, d)."""
        z1, z2 = self.f(x1), self.f(x2)
        s1, s2 = self.scores(z1), self.scores(z2)
        p1, p2 = self.h(s1 / T), self.h(s2 / T)
        return self.D(p1, s2) / 2 + self.D(p2, s1) / 2, z1
