"""SimSiam: Algorithm 1 and every switch of Section 4, in the paper's letters.

    x1, x2   two views of the same images          f   encoder: backbone, then projector
    z = f(x)  projections (N, d)                   h   predictor
    p = h(z)  predictions (N, d)                   D   negative cosine similarity (Eq. 1)

    L = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2                              (Eq. 4)

With the cosine L lies in [-1, 1]. Its minimum -1 is reached when every prediction points where
its target points, and also when all outputs are the same: the collapse that the stop-gradient
prevents. The measures at the end of this file tell the one from the other. train.py runs it all.
"""

import torch
import torch.nn.functional as F
from torch import nn

# ------------------------------------------------------------------------------------------------
# The loss. A similarity compares p and z row by row; D adds the stop-gradient and the batch mean.


def negative_cosine(p, z):
    """-(p / ||p||) . (z / ||z||), Eq. 1.   p, z: (N, d)   returns: (N,) in [-1, 1]"""
    return -(F.normalize(p, dim=1) * F.normalize(z, dim=1)).sum(dim=1)


def cross_entropy(p, z):
    """-softmax(z) . log softmax(p), Sec. 4.5.   p, z: (N, d)   returns: (N,), above 0

    The softmax runs over the d channels, and so does the sum: a mean over them divides loss and
    gradient by d, and the run looks stuck.
    """
    return -(F.softmax(z, dim=1) * F.log_softmax(p, dim=1)).sum(dim=1)


SIMILARITIES = {"cosine": negative_cosine, "cross-entropy": cross_entropy}


def D(p, z, stopgrad=True, similarity=negative_cosine):
    """How far the predictions p are from their targets z (Eq. 1), z being a constant (Eq. 3).

    p: (N, d) predictions   z: (N, d) projections of the other view   returns: () batch mean
    """
    if stopgrad:
        z = z.detach()
    return similarity(p, z).mean()


# ------------------------------------------------------------------------------------------------
# The heads. Sec. 3 says which fully connected layers have a BN, and Table 3 moves them.

# Is there a BN after the projector's hidden fc, its output fc, the predictor's hidden fc, and its
# output fc? The backbone keeps its own BN in every row.
BN = {
    "none": (False, False, False, False),  # Table 3 (a)
    "hidden": (True, False, True, False),  # (b)
    "default": (True, True, True, False),  # (c), Sec. 3
    "no-affine": (True, True, True, False),  # (c), the output BN of f without scale and offset
    "all": (True, True, True, True),  # (d)
}


def fc(c_in, c_out, bn, relu, affine=True):
    """One layer of an MLP head, (N, c_in) -> (N, c_out), as a list of modules.

    A bias in front of a BN would be subtracted again with the batch mean: such a layer has none.
    """
    layers = [nn.Linear(c_in, c_out, bias=not bn)]
    layers += [nn.BatchNorm1d(c_out, affine=affine)] if bn else []
    return layers + ([nn.ReLU(inplace=True)] if relu else [])


def projection_mlp(c_in, dim=2048, depth=3, bn="default"):
    """The projection MLP, Sec. 3: (N, c_in) -> (N, dim); `depth` fc layers, no ReLU on the output.

    Hidden layers are as wide as the output, as in Sec. 3 where both are 2048; the official code
    takes the backbone's width, which is the same for ResNet-50 only. App. D uses depth 2.
    """
    hidden_bn, output_bn, _, _ = BN[bn]
    layers = []
    for i in range(depth - 1):
        layers += fc(c_in if i == 0 else dim, dim, hidden_bn, relu=True)
    return nn.Sequential(*layers, *fc(dim, dim, output_bn, relu=False, affine=bn != "no-affine"))


def prediction_mlp(dim=2048, hidden=512, bn="default"):
    """The prediction MLP h, Sec. 3: (N, dim) -> (N, hidden) -> (N, dim), a bottleneck of d / 4."""
    _, _, hidden_bn, output_bn = BN[bn]
    layers = fc(dim, hidden, hidden_bn, relu=True) + fc(hidden, dim, output_bn, relu=False)
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------------


class SimSiam(nn.Module):
    """Algorithm 1: views in, loss out.

    backbone: a network with (N, backbone.features) outputs   dim, pred_dim, proj_layers: the heads
    stopgrad: Sec. 4.1   predictor: "mlp", "none", "fixed", Sec. 4.2   bn: Sec. 4.4
    similarity: Sec. 4.5   symmetry: "symmetric", "asymmetric", "asymmetric2x", Sec. 4.6
    """

    def __init__(self, backbone, dim, proj_layers, pred_dim=None, predictor="mlp", bn="default",
                 stopgrad=True, similarity="cosine", symmetry="symmetric"):
        super().__init__()
        self.backbone = backbone
        self.projector = projection_mlp(backbone.features, dim, proj_layers, bn)
        self.h = prediction_mlp(dim, pred_dim or dim // 4, bn)  # App. B: the bottleneck is d / 4
        if predictor == "none":  # Table 1 (a)
            self.h = nn.Identity()
        if predictor == "fixed":  # Table 1 (b): stays as it was drawn
            self.h.requires_grad_(False)
        self.stopgrad, self.similarity = stopgrad, SIMILARITIES[similarity]
        self.symmetric, self.views = symmetry == "symmetric", 4 if symmetry == "asymmetric2x" else 2

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def D(self, p, z):
        return D(p, z, self.stopgrad, self.similarity)

    def loss(self, x1, x2):
        """One pair of views, (N, 3, H, W) each -> loss (), projections z1 (N, d)."""
        z1, z2 = self.f(x1), self.f(x2)  # two passes: each view has its own BN statistics
        p1 = self.h(z1)
        if not self.symmetric:
            return self.D(p1, z2), z1  # Eq. 3
        p2 = self.h(z2)
        return self.D(p1, z2) / 2 + self.D(p2, z1) / 2, z1  # Eq. 4

    def forward(self, *views):
        """Two views, or four (asymmetric 2x: two pairs an image) -> loss (), z1 (N, d)."""
        pairs = [self.loss(x1, x2) for x1, x2 in zip(views[::2], views[1::2])]
        return sum(L for L, _ in pairs) / len(pairs), pairs[0][1]


# ------------------------------------------------------------------------------------------------
# Has it collapsed?


def output_std(z):
    """Std of each channel of z / ||z||, averaged over channels, times sqrt(d) (Fig. 2, middle).

    z: (N, d)   returns: () in [0, 1]: 0 if all rows point the same way, about 1 if z is Gaussian
    It is blind to dimensional collapse: rows of only two directions, u and -u, can also give 1.
    """
    return F.normalize(z, dim=1).std(dim=0, correction=0).mean() * z.shape[1] ** 0.5


def effective_rank(z):
    """exp of the entropy of the singular values' shares (RankMe, arXiv 2210.02885, Eq. 1).

    z: (N, d)   returns: () between 1, all rows on one line, and min(N, d), a flat spectrum
    """
    s = torch.linalg.svdvals(z)
    share = s / s.sum() + 1e-7
    return torch.exp(-(share * share.log()).sum())


def centre(z):
    """Length m_o of the mean of the rows z / ||z|| (Zhang et al., arXiv 2203.16262).

    z: (N, d)   returns: () in [0, 1]: 1 if all rows point the same way, 0 if they cancel
    What is left, the residuals, has the mean square 1 - m_o^2: complete collapse takes it to 0.
    """
    return F.normalize(z, dim=1).mean(dim=0).norm()


def alignment(z1, z2):
    """Mean squared distance of the two views of an image on the sphere (arXiv 2005.10242, Sec. 4).

    z1, z2: (N, d)   returns: () in [0, 4]: 2 + 2 D(z1, z2)
    """
    return (F.normalize(z1, dim=1) - F.normalize(z2, dim=1)).square().sum(dim=1).mean()


def uniformity(z):
    """log of the mean over pairs of rows of exp(-2 distance^2) on the sphere (arXiv 2005.10242).

    z: (N, d)   returns: () at most 0, which a constant output has; lower is more even
    """
    return torch.pdist(F.normalize(z, dim=1)).square().mul(-2).exp().mean().log()
