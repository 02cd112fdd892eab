"""SwAV (Caron et al., arXiv 2006.09882): predict which cluster the other view belongs to.

    python train.py --method swav
    python train.py --method swav --no-stopgrad          SimSiam's Sec. 6.2: on ImageNet it diverges

    s = z·c / (‖z‖ ‖c‖)                  scores of z with the prototypes c, the clusters' centres
    q = sinkhorn(s), p = s / T           codes, the targets, and logits; or p = h(s / T)
    L = -q2 · log softmax(p1) / 2 - q1 · log softmax(p2) / 2     SwAV's Eq. 1, halved, and Eq. 2

What differs: the targets are assignments to clusters, and every cluster gets the same share of the
batch, so not all images can be in one. (Every image can still be equally in all of them, at a loss
of log K. SwAV's Sec. 3.1 warns of it where ε is large; with its value, `--epsilon 0.05`, two of
three seeds on shapes ended there.) SimSiam is "SwAV without online clustering" (Sec. 6.2). As in
that section, the prototypes belong to the encoder, are normalised in it and get their full
gradient, and the codes are targets behind a stop-gradient.

here: two views, no small crops, each with BN statistics of its own (SwAV: shared); no queue of old
features; SimSiam's views, SGD and recipe (SwAV: twice the colour jitter, LARS).
here: ε = 0.03 on shapes (SwAV: 0.05); 30 prototypes (SwAV: 3000), too few for ImageNet's 1000
classes; they learn from the first step (SwAV: frozen for an epoch).
here: a projector of two layers of width 128 (SwAV: 2048 and 128; three in SimSiam's reproduction).
here: with --predictor mlp the outputs of h are not divided by T; the paper does not say. Unlike
cosines they have no bounds, and when they were divided, the loss rose to 240.
"""

import torch
import torch.nn.functional as F
from torch import nn

from simsiam import linear_bn_relu, prediction_mlp
from utils.parallel import gather

T, PROTOTYPES = 0.1, 30


def sinkhorn(scores, eps, iterations=3):
    """Soft codes that use all prototypes equally, by Sinkhorn-Knopp (Sec. 3.1 of SwAV).

    q = exp(scores / eps), then in each iteration: divide the columns by their sums, then the rows
    scores: (N, K) in [-1, 1]   returns: (N, K) ≥ 0; rows sum to 1, columns to about N / K
    eps: the smaller, the nearer the codes are to one-hot; below 0.025 they may be NaN
    """
    # Subtracting the maximum cancels in the divisions, and exp() cannot overflow. It can underflow:
    # exp(-2 / eps) is 0 in float32 if eps is below 0.023, and a column of zeros has no share.
    q = torch.exp((scores - scores.max().detach()) / eps)
    for _ in range(iterations):
        q = q / q.sum(dim=0, keepdim=True)  # every prototype has the same share of the batch
        q = q / q.sum(dim=1, keepdim=True)  # every image is a distribution over prototypes
    return q


class SwAV(nn.Module):
    """SwAV without its optimiser: two views in, loss and projections out.

    backbone: a network (N, 3, H, W) -> (N, backbone.num_features)   dim: d
    pred_dim: width of h's hidden layer, d / 4 if None (no bottleneck: h maps the K scores)
    predictor: "none" or "mlp"   epsilon: eps of sinkhorn()
    stopgrad: whether the codes are constants to the gradient
    """

    def __init__(self, backbone, epsilon, dim=128, pred_dim=None, predictor="none",
                 stopgrad=True):
        super().__init__()
        c = backbone.num_features
        self.backbone = backbone
        self.projector = nn.Sequential(*linear_bn_relu(c, dim, bn=True, relu=True),
                                       *linear_bn_relu(dim, dim, bn=False, relu=False))
        self.prototypes = nn.Linear(dim, PROTOTYPES, bias=False)
        mlp = predictor == "mlp"
        self.h = prediction_mlp(PROTOTYPES, pred_dim or dim // 4) if mlp else nn.Identity()
        self.epsilon, self.stopgrad = epsilon, stopgrad

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def scores(self, z):
        """The cosine of each projection with each prototype: (N, d) -> (N, K)."""
        return F.linear(F.normalize(z, dim=1), F.normalize(self.prototypes.weight, dim=1))

    def D(self, p, s):
        """The cross-entropy -q · log softmax(p), q the codes of s.   p, s: (N, K)   returns: ()"""
        p, s = gather(p), gather(s)  # the whole batch shares out the prototypes
        q = sinkhorn(s, self.epsilon)
        q = q.detach() if self.stopgrad else q
        return -(q * F.log_softmax(p, dim=1)).sum(dim=1).mean()

    def forward(self, x1, x2):
        """Two views x1, x2 (N, 3, H, W) -> the loss (), and z1 (N, d) to be measured."""
        z1, z2 = self.f(x1), self.f(x2)  # (N, d)
        s1, s2 = self.scores(z1), self.scores(z2)  # (N, K)
        p1, p2 = self.h(s1 / T), self.h(s2 / T)  # (N, K)
        return self.D(p1, s2) / 2 + self.D(p2, s1) / 2, z1
