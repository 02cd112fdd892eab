"""The laws of exercise 3: Algorithm 1."""

import torch
from torch import nn

from exercises.exercise import show
from simsiam import SimSiam

BLANKS = ["simsiam.py:SimSiam.forward"]
HIDE = ["simsiam.py:show_forward", "simsiam.py:gradient_norms",
        "baselines/barlow.py:BarlowTwins.forward",
        "baselines/byol.py:BYOL.forward", "baselines/lejepa.py:LeJEPA.forward",
        "baselines/moco.py:MoCo.forward", "baselines/simclr.py:SimCLR.forward",
        "baselines/swav.py:SwAV.forward", "baselines/vicreg.py:VICReg.forward"]
READ = ("Algorithm 1, Eq. 3 and 4; Sec. 4.6 on the asymmetric loss; the docstring of SimSiam and"
        " its __init__, which makes self.h, self.D and self.symmetry.")


class Count(nn.Module):
    """A layer that keeps what it is given."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.seen = layer, []

    def forward(self, x):
        self.seen.append(x.detach())
        return self.layer(x)


def scale(w):
    """The layer x -> w x, for rows of one number."""
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(layer.weight, w)
    return layer


def model(D, f=3.0, h=2.0, symmetry="symmetric"):
    """A SimSiam with f(x) = f x and h(z) = h z, and any D: exercises 1 and 2 are not needed."""
    m = SimSiam.__new__(SimSiam)
    nn.Module.__init__(m)
    m.backbone, m.projector = Count(nn.Identity()), scale(f) if isinstance(f, float) else f
    m.h, m.D, m.symmetry = Count(scale(h)), D, symmetry
    return m


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def product(p, z):
    """A stand-in for D that changes if p and z change places."""
    return (p * z**2).mean()


# x1 = 1 and x2 = 2, so z1 = 3, z2 = 6, p1 = 6, p2 = 12 in all examples with numbers.
GIVEN = "With z1 = 3, z2 = 6, p1 = 6, p2 = 12 and D(p, z) = p z²"


def law_a_loss_and_z1():
    """forward gives two things: the loss, a single number, and z1, one row per image."""
    got = model(product)(column(1, 2, 3), column(2, 3, 4))
    assert isinstance(got, tuple) and len(got) == 2, (
        f"It must return loss, z1; yours returns {type(got).__name__}.")
    shapes = [list(v.shape) for v in got]
    assert shapes == [[], [3, 1]], (f"For 3 images the shapes must be [] and [3, 1]; yours are"
                                    f" {shapes[0]} and {shapes[1]}.")


def law_each_predicts_the_other():
    """The loss is the mean of D(p1, z2) and D(p2, z1), Eq. 4: each view predicts the other."""
    got = model(product)(column(1), column(2))[0].item()
    assert abs(got - 162) < 1e-6, (f"{GIVEN} the loss must be 6 · 36 / 2 + 12 · 9 / 2 = 162; yours"
                                   f" is {got:g}.")


def law_z1_is_returned():
    """The second result is z1 = f(x1), which train.py measures, not z2 and not p1."""
    got = model(product)(column(1), column(2))[1].item()
    assert abs(got - 3) < 1e-6, f"With z1 = 3, z2 = 6 and p1 = 6 it must be 3; yours is {got:g}."


def law_the_asymmetric_loss():
    """With symmetry="asymmetric" the loss is D(p1, z2) alone, not halved (Sec. 4.6)."""
    got, z1 = model(product, symmetry="asymmetric")(column(1), column(2))
    assert abs(got - 216) < 1e-6, f"{GIVEN} it must be 6 · 36 = 216; yours is {got:g}."
    assert abs(z1 - 3) < 1e-6, f"It must also return z1, which is 3; yours is {z1.item():g}."


def law_each_view_once():
    """The encoder sees each view once, in a pass of its own, and so does h."""
    m = model(product)
    m(column(1, 2), column(3, 4))
    for name, layer, wanted in (("backbone", m.backbone, [[1, 2], [3, 4]]),
                                ("predictor h", m.h, [[3, 6], [9, 12]])):
        seen = sorted(x.flatten().tolist() for x in layer.seen)
        assert seen == wanted, (f"For x1 = [1, 2], x2 = [3, 4] and f(x) = 3 x the {name} must be"
                                f" given {show(wanted)}, a batch per view; yours is given"
                                f" {show(seen)}.")


def law_BN_sees_one_view():
    """BN normalises each view by the view's own batch: two passes, not one of all 2N images."""
    for symmetry in ("symmetric", "asymmetric"):
        bn = nn.BatchNorm1d(1, affine=False).double()
        z1 = model(product, f=bn, symmetry=symmetry)(column(0, 2), column(10, 12))[1]
        a, b = z1.flatten().tolist()
        assert max(abs(a + 1), abs(b - 1)) < 1e-3, (
            f'With symmetry="{symmetry}", if f is a BN, x1 = [0, 2] and x2 = [10, 12], z1 must be'
            f" [-1, 1]; yours is [{a:.2f}, {b:.2f}]: BN saw both views at once.")
        assert bn.num_batches_tracked == 2, (
            f'With symmetry="{symmetry}" BN must have counted 2 batches; it counted'
            f" {int(bn.num_batches_tracked)}.")


def demand_gradient(D, what, symmetry, sum_of_terms, wanted):
    """Assert what the gradient is for f = 1 and h = 3: z1, z2 = 1, 2 and p1, p2 = 3, 6."""
    m = model(D, f=1.0, h=3.0, symmetry=symmetry)
    loss = m(column(1), column(2))[0]
    assert loss.requires_grad, (f'With symmetry="{symmetry}" no gradient reaches the encoder: the'
                                " loss is a constant.")
    loss.backward()
    g = m.projector.weight.grad
    got = 0.0 if g is None else g.item()
    assert abs(got - wanted) < 1e-6, (
        f'With symmetry="{symmetry}", f(x) = w x, w = 1, h(z) = 3 z, x1 = 1, x2 = 2 and'
        f" D(p, z) = {what}, the gradient with respect to w must be {sum_of_terms} = {wanted};"
        f" yours is {got:g}.")


def law_the_encoder_learns_through_p():
    """With stop-gradient the encoder learns through the predictions p1 and p2."""
    # L = (p1 - z2)² / 2 + (p2 - z1)² / 2, where dp1 = 3 and dp2 = 6; or the first term, not halved
    for case in (("symmetric", "(3 - 2) · 3 + (6 - 1) · 6", 33),
                 ("asymmetric", "2 · (3 - 2) · 3", 6)):
        demand_gradient(lambda p, z: (p - z.detach()).square().mean(), "(p - stopgrad(z))²", *case)


def law_the_stop_gradient_is_Ds():
    """forward itself detaches nothing: D decides, so that --no-stopgrad has an effect."""
    # now dz2 = 2 and dz1 = 1 as well
    for case in (("symmetric", "(3 - 2) · (3 - 2) + (6 - 1) · (6 - 1)", 26),
                 ("asymmetric", "2 · (3 - 2) · (3 - 2)", 2)):
        demand_gradient(lambda p, z: (p - z).square().mean(), "(p - z)²", *case)
