"""SimSiam: Algorithm 1, its two heads, and the switches of Section 4, in the paper's letters.

    x1, x2     two views of the same images (N, 3, H, W)
    z = f(x)   projections (N, d); f is the encoder: backbone, then projection MLP
    p = h(z)   predictions (N, d); h is the prediction MLP, on one branch of each term
    D(p, z)    how far predictions are from their targets, at best -1

    D(p, z) = -(p / ‖p‖) · (z / ‖z‖)                                                     (Eq. 1)
    L = D(p1, z2) / 2 + D(p2, z1) / 2                                                    (Eq. 2)
        D(p1, stopgrad(z2))                                          one term of Eq. 4:  (Eq. 3)
    L = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2                                (Eq. 4)

Eq. 2 invites the network to give every image the same output z = p: L = -1, its minimum, with
nothing learned. Eq. 4 has the same minimum, but in practice, with a trained h, training does not
end there: the paper's main finding. stopgrad=False gives Eq. 2. A loss near -1 can therefore be
good or bad news, and output_std and effective_rank tell which.

    python simsiam.py     shows all this on a batch of 16 images, in numbers

Apart from that nothing here trains: train.py calls SimSiam.forward(x1, x2) for each batch.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

# ------------------------------------------------------------------------------------------------
# The loss. A similarity compares p and z row by row; D adds the stop-gradient and the batch mean.


def negative_cosine(p, z):
    """The negative cosine of each row of p and the same row of z: -(p / ‖p‖) · (z / ‖z‖), Eq. 1.

    p, z: (N, d)   returns: (N,) in [-1, 1], -1 where p and z point the same way
    A row of zeros has no direction and counts as cosine 0, not NaN. With p and z of length 1 this
    is ‖p - z‖² / 2 - 1: the squared error of BYOL, up to a factor and a constant.
    """
    # F.normalize divides by max(‖p‖, 1e-12); a plain p / ‖p‖ would make a row of zeros NaN.
    p, z = F.normalize(p, dim=1), F.normalize(z, dim=1)  # dim=1: each row, not each channel
    return -(p * z).sum(dim=1)  # (N,)


def cross_entropy(p, z):
    """The cross-entropy of each row: -softmax(z) · log softmax(p), Sec. 4.5.

    p, z: (N, d)   returns: (N,), at least the entropy of softmax(z), reached where p = z
    Both softmaxes run over the d channels, which are treated as pseudo-categories.
    """
    # The dot product is a sum over channels. A mean would divide the gradient by d, and the run
    # would stall.
    return -(F.softmax(z, dim=1) * F.log_softmax(p, dim=1)).sum(dim=1)  # (N,)


# The choices of --similarity. For a given z, the better p agrees, the smaller the value must be.
SIMILARITIES = {"cosine": negative_cosine, "cross-entropy": cross_entropy}


def D(p, z, stopgrad=True, similarity=negative_cosine):
    """The mean over the batch of how far p is from its target z; with stopgrad z is a constant.

    p: (N, d) predictions   z: (N, d) projections of the other view   returns: ()
    similarity: (N, d), (N, d) -> (N,), row by row   stopgrad=True: Eq. 3, False: a term of Eq. 2
    """
    # The stop-gradient: in this term p moves towards z, but z does not move towards p. Without it
    # each moves towards the other until all outputs are the same (Fig. 2).
    if stopgrad:
        z = z.detach()
    return similarity(p, z).mean()  # (N,) -> ()


# ------------------------------------------------------------------------------------------------
# The heads, Sec. 3. Table 3 asks where they need batch normalisation (BN).

# Whether BN follows the projector's hidden layers, the projector's output layer, the predictor's
# hidden layer, the predictor's output layer. The backbone keeps its own BN in every row.
BN = {
    "none": (False, False, False, False),  # Table 3 (a): hard to optimise
    "hidden": (True, False, True, False),  # (b)
    "default": (True, True, True, False),  # (c), Sec. 3
    "no-affine": (True, True, True, False),  # (c), but f's last BN has no γ and β
    "all": (True, True, True, True),  # (d): unstable
}


def linear_bn_relu(c_in, c_out, bn, relu, affine=True):
    """One layer of an MLP head as a list of modules: linear, BN if `bn`, ReLU if `relu`.

    (N, c_in) -> (N, c_out)   affine: whether the BN has a scale γ and an offset β
    """
    # BN subtracts the batch mean, and with it any bias added just before: no bias in front of BN.
    layers = [nn.Linear(c_in, c_out, bias=not bn)]
    # On several GPUs options.build() makes this SyncBN, as in Sec. 3: see utils/sync_bn.py.
    if bn:
        layers.append(nn.BatchNorm1d(c_out, affine=affine))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return layers


def projection_mlp(c_in, dim=2048, depth=3, bn="default"):
    """The projection MLP, the second half of the encoder f: (N, c_in) -> (N, dim), Sec. 3.

    depth: number of linear layers, 3 in Sec. 3 and 2 in App. D
    bn: a key of BN   Hidden layers: linear, BN, ReLU. Output layer: linear and BN, no ReLU.
    """
    hidden_bn, output_bn, _, _ = BN[bn]
    # here: hidden layers are as wide as the output, d. Both are 2048 in Sec. 3; in the official
    # code hidden layers are as wide as the backbone's features, which for ResNet-50 is 2048, too.
    layers = []
    for width in [c_in] + [dim] * (depth - 2):
        layers += linear_bn_relu(width, dim, hidden_bn, relu=True)
    # No ReLU: with one, every channel of z would be ≥ 0, and no two rows could point in opposite
    # directions.
    # here: this BN has γ and β, as the paper says; the official code leaves them out (no-affine).
    # With stop-gradient and a BN in h, β stays 0: h's BN subtracts it, and targets are constants.
    layers += linear_bn_relu(dim, dim, output_bn, relu=False, affine=bn != "no-affine")
    return nn.Sequential(*layers)


def prediction_mlp(dim=2048, hidden=512, bn="default"):
    """The prediction MLP h: (N, dim) -> (N, hidden) -> (N, dim), Sec. 3.

    hidden: width of the bottleneck, d / 4 in the paper   bn: a key of BN
    Hidden layer: linear, BN, ReLU. Output layer: linear only. All linear layers of the heads keep
    nn.Linear's initialisation, uniform in ±1/√c_in: App. A warns that others may not converge.
    """
    _, _, hidden_bn, output_bn = BN[bn]
    # BN on this output makes the loss oscillate (Table 3 (d)), and a hidden layer of width d trains
    # less stably than the bottleneck (App. B).
    layers = linear_bn_relu(dim, hidden, hidden_bn, relu=True)
    layers += linear_bn_relu(hidden, dim, output_bn, relu=False)
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------------
# The method.


class SimSiam(nn.Module):
    """Algorithm 1 without its optimiser: two views in, loss and projections out.

    backbone: a network (N, 3, H, W) -> (N, backbone.num_features)   dim: d
    proj_layers: depth of the projector   pred_dim: width of h's hidden layer, d / 4 if None
    stopgrad: Sec. 4.1   predictor: "mlp", "none" or "fixed", Sec. 4.2   bn: a key of BN, Sec. 4.4
    similarity: a key of SIMILARITIES, Sec. 4.5   symmetry: "symmetric" or "asymmetric", Sec. 4.6
    """

    def __init__(self, backbone, dim, proj_layers, pred_dim=None, predictor="mlp", bn="default",
                 stopgrad=True, similarity="cosine", symmetry="symmetric"):
        super().__init__()
        self.backbone = backbone
        self.projector = projection_mlp(backbone.num_features, dim, proj_layers, bn)
        # Made even if it is not used, so that the random numbers drawn after it are the same.
        self.h = prediction_mlp(dim, pred_dim or dim // 4, bn)
        if predictor == "none":
            # Table 1 (a): p = z, and cosine(p, z) = cosine(z, p), so the stop-gradient only halves
            # the gradient of the symmetric loss. That does not explain why the asymmetric loss
            # fails, too.
            self.h = nn.Identity()
        if predictor == "fixed":
            self.h.requires_grad_(False)  # Table 1 (b): stays random; the loss stays high
        self.D = partial(D, stopgrad=stopgrad, similarity=SIMILARITIES[similarity])
        self.symmetry = symmetry

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    def forward(self, x1, x2):
        """Algorithm 1: x1, x2 (N, 3, H, W) -> the loss (), Eq. 4, and z1 (N, d) to be measured.

        Without stop-gradient the loss is Eq. 2. Sec. 5.1 sees a step of SGD on Eq. 4 as a step of
        an alternating optimisation, Eq. 11.
        """
        # Two passes, so that BN normalises x1 and x2 each by its own batch statistics, as in
        # Algorithm 1. One pass of all 2N views would mix their statistics.
        z1, z2 = self.f(x1), self.f(x2)  # (N, d)
        if self.symmetry == "asymmetric":
            return self.D(self.h(z1), z2), z1  # Eq. 3 alone: one prediction per image, Sec. 4.6
        p1, p2 = self.h(z1), self.h(z2)  # (N, d)
        # Each view is a target in one term and predicts in the other. With stop-gradient f learns
        # only through p.
        return self.D(p1, z2) / 2 + self.D(p2, z1) / 2, z1  # Eq. 4


# ------------------------------------------------------------------------------------------------
# Has it collapsed? Completely, to one output for all images, or dimensionally, to outputs that
# differ along a few directions only. The loss shows neither. These two together show both, except
# in the cases that collapsed() names.


def output_std(z):
    """The std of each channel of z / ‖z‖ over the batch, averaged over channels, times √d (Fig. 2).

    z: (N, d)   returns: () in [0, 1]; 0 if all rows point the same way, about 1 if z is an
    isotropic Gaussian around 0
    """
    # Why √d: for rows of length 1 the d variances sum to 1 - ‖mean‖² ≤ 1. So their mean is at most
    # 1/d, and the mean std at most 1/√d (Jensen's inequality).
    # Two blind spots. If each row is u or -u, the rows use one direction, yet the std can be 1. If
    # only k channels of z / ‖z‖ vary, the std is at most √(k/d), although z may use k directions.
    z = F.normalize(z, dim=1)
    return z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5  # divide by N, so 1 is the limit


def effective_rank(z):
    """How many directions z uses: exp of the entropy of its singular values' shares s / Σ s.

    z: (N, d)   returns: () from 1 (all rows on one line through 0) to about min(N, d) (all
    singular values equal); NaN if z is all 0
    The paper has no such measure; this is RankMe (arXiv 2210.02885, Eq. 1), whose shares are
    s / Σ s + 1e-7.
    """
    # Not centred: a constant output is then one large singular value, rank 1. Centred, only its
    # rounding noise would be left, which may have any rank.
    s = torch.linalg.svdvals(z)  # (min(N, d),)
    share = s / s.sum() + 1e-7  # keeps log(0) out; raises the rank by up to 0.3 % at d = 2048
    return torch.exp(-(share * share.log()).sum())


COLLAPSED_STD, COLLAPSED_RANK = 0.1, 2.0  # the paper names no thresholds; these are ours


def collapsed(std, rank):
    """Whether outputs have collapsed: to one direction (std) or onto one line through 0 (rank).

    std: output_std(z)   rank: effective_rank(z)   returns: a bool; NaN does not count as collapsed
    """
    # std: in the logs of experiments/, runs whose outputs are all alike end below 0.03, and
    # untrained networks, some of whose heads have no BN, start at 0.21 or more; most of the few
    # runs that end between have a rank below 2. rank: two directions used equally have rank 2;
    # below that, one outweighs all others. Accuracy does not count: the outputs collapse first, and
    # the features, which kNN and the probe see, much later.
    # Outputs that differ along a few directions, say five, do not count as collapsed, though papers
    # call that a dimensional collapse, too.
    # Blind spots: a last BN without γ and β subtracts what nearly equal outputs have in common and
    # scales up the rest, which can look healthy. So can outputs that shrink to 0, as both numbers
    # ignore the scale of z (LeJEPA without its regulariser). If less than a hundredth of the
    # channels of z / ‖z‖ vary, the std is below 0.1, however many directions z uses; and a few rows
    # that are much longer than the others make the rank small.
    return std < COLLAPSED_STD or rank < COLLAPSED_RANK


# ------------------------------------------------------------------------------------------------
# One batch, step by step: what `python simsiam.py` prints.


def small(stopgrad=True):
    """A small SimSiam, with the same weights at every call, and a function that draws x1 and x2."""
    from augment import Augment
    from resnet import resnet
    from utils.data import draw_shapes

    x, _ = draw_shapes(16, 24, tint=0.02, seed=0)
    T = Augment(24, mean=(0.5,) * 3, std=(0.25,) * 3, crop_min=0.4, blur_p=0.0)
    torch.manual_seed(0)  # the same weights and the same views with stop-gradient and without
    model = SimSiam(resnet("resnet8", "cifar"), dim=32, proj_layers=2, stopgrad=stopgrad)
    return model, lambda: (T(x), T(x))


def show_forward():
    """Print what views, projections and predictions look like, and the loss."""
    model, two_views = small()
    x1, x2 = two_views()
    z1, z2 = map(model.f, (x1, x2))
    p1, p2 = map(model.h, (z1, z2))
    rows = "{0.shape[0]} rows of {0.shape[1]}, lengths {1[0]:.2f} to {1[1]:.2f}"
    z, p = (rows.format(v, v.norm(dim=1).aminmax()) for v in (z1, p1))
    print(f"""\
1. Two views of each image
   x1, x2       {tuple(x1.shape)}
2. The encoder f: backbone, then projection MLP
   z1 = f(x1)   {z}
   z2 = f(x2)   with the same weights
3. The prediction MLP h: from 32 to 8, and back to 32
   p1 = h(z1)   {p}
   p2 = h(z2)   with the same weights
4. D: minus the mean cosine of the rows, which ignores their lengths (Eq. 1)
   D(p1, z2)    {D(p1, z2):6.3f}
   D(p2, z1)    {D(p2, z1):6.3f}
   L            {D(p1, z2) / 2 + D(p2, z1) / 2:6.3f}, half of each; -1 is the minimum (Eq. 4)
""")


def gradient_norms(stopgrad):
    """The norms of the gradients of D(p1, z2) w.r.t. z1 and z2, and of L w.r.t. f's weights."""
    model, two_views = small(stopgrad)
    z1, z2 = map(model.f, two_views())
    term = model.D(model.h(z1), z2)
    # materialize_grads: a detached z2 has the gradient 0, not None.
    of_term = torch.autograd.grad(term, (z1, z2), retain_graph=True, materialize_grads=True)
    (term / 2 + model.D(model.h(z2), z1) / 2).backward()
    f = [*model.backbone.parameters(), *model.projector.parameters()]
    return [v.norm() for v in (*of_term, torch.cat([w.grad.flatten() for w in f]))]


def show_backward():
    """Print the norms of the gradients with stop-gradient and without."""
    print("5. Backward: the norm of the gradient        with stop-gradient   without")
    names = ("of D(p1, z2) w.r.t. z1, through p1", "of D(p1, z2) w.r.t. z2, the target",
             "of L w.r.t. f's weights")
    for name, *both in zip(names, gradient_norms(True), gradient_norms(False)):
        print("   {:44}{:10.3f} {:17.3f}".format(name, *both))
    print("\n   Without stop-gradient the target also moves towards the prediction.\n")


def short_training(stopgrad):
    """41 steps of SGD; yields, at every tenth, its number, L, std and rank."""
    from optim import SGD

    model, two_views = small(stopgrad)
    sgd = SGD([model.parameters()])
    for step in range(41):
        L, z1 = model(*two_views())
        if step % 10 == 0:
            yield step, L, output_std(z1), effective_rank(z1)
        sgd.zero_grad()
        L.backward()
        sgd.step(1.0)


def show_training():
    """Print what the loss and the measures of collapse say, with stop-gradient and without."""
    print("""\
6. SGD with lr 1, at every step on new views of the 16 images

                   with stop-gradient               without
        step     loss     std   rank        loss     std   rank""")
    one, two = (list(short_training(stopgrad)) for stopgrad in (True, False))
    for a, b in zip(one, two):
        print("   {:9}   {:6.3f}   {:.3f}   {:4.1f}".format(*a)
              + "      {:6.3f}   {:.3f}   {:4.1f}".format(*b[1:]))
    words = ["yes" if collapsed(*run[-1][2:]) else "no" for run in (one, two)]
    print("""\
   collapsed      {}                         {}

   std: how much the outputs of the images differ, from 0 to 1. rank: how many
   directions they use, from 1 to 16. Collapsed: std below {}, or rank below
   {:g}. The loss does not show it: the collapsed run has the lower one.\
""".format(*words, COLLAPSED_STD, COLLAPSED_RANK))


def main():
    """Print what Algorithm 1 does to a batch of 16 images, with and without stop-gradient."""
    torch.set_num_threads(1)  # the last digits depend on the number of threads
    print("Algorithm 1 on N = 16 images of shapes, with a resnet8 and d = 32\n")
    show_forward()
    show_backward()
    show_training()


if __name__ == "__main__":
    from utils.console import plain_errors  # here, so that the file can be copied without utils/

    plain_errors(main)()
