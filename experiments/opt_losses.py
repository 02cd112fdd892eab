"""The course project's study of similarity functions: what should p and z be compared by?

    python -m experiments.opt_losses

-cosine, cross-entropy, and half the squared, the L1, L2 and L-infinity distance, each of raw and of
normalised vectors. So that one lr suits them all, raw vectors are divided by sqrt(d), the length
that BN gives to z, L1 is divided by sqrt(d), which makes it at most L2, and the softmaxes are of
vectors times sqrt(d): raw, they are Sec. 4.5's.
Equivalent: half the squared distance of normalised vectors is 1 - cosine (Sec. 3), so they share a
row, and a test. The dot product of raw vectors has no minimum, hence no row.
The ancestor's p2 and pinf were of raw vectors, its cross-entropy was divided by d.

What it printed (AMD EPYC, shapes; one thread a run, the machine shared):

                                            linear %         kNN %     s  n
    -cosine (half squared, normalised)    99.7 ± 0.4    99.3 ± 0.5   117  3
    half squared, raw                     95.8 ± 0.2    84.1 ± 2.3   109  3
    L1, normalised                        99.8 ± 0.1    98.7 ± 0.9   112  3
    L1, raw                               99.7 ± 0.1    96.8 ± 2.8   109  3
    L2, normalised                        99.8 ± 0.1    99.4 ± 0.2   109  3
    L2, raw                               99.7 ± 0.3    98.5 ± 0.8   112  3
    L-infinity, normalised                95.3 ± 3.7    85.4 ± 8.8   109  3
    L-infinity, raw                       68.2 ± 2.6    55.1 ± 1.9   117  3
    cross-entropy, normalised            100.0 ± 0.1    99.3 ± 0.2   116  3
    cross-entropy, raw                    93.0 ± 0.3    80.7 ± 3.5    77  3
"""

import sys

import torch.nn.functional as F

from experiments.table import Claim, Row, below, main, none_above, none_collapsed
from simsiam import cross_entropy
from train import two_views


def raw(v):
    return v / v.shape[1] ** 0.5


def normalised(v):
    return F.normalize(v, dim=1)


DISTANCES = {  # of rows: (N, d), (N, d) -> (N,)
    "half squared": lambda p, z: (p - z).square().sum(dim=1) / 2,
    "L1": lambda p, z: (p - z).abs().sum(dim=1) / p.shape[1] ** 0.5,
    "L2": lambda p, z: (p - z).norm(dim=1),
    "L-infinity": lambda p, z: (p - z).abs().amax(dim=1),
    "cross-entropy": lambda p, z: cross_entropy(*(v * v.shape[1] ** 0.5 for v in (p, z))),
}


def compared_by(name, unit):
    """SimSiam with that distance of raw or normalised vectors in place of the cosine: a make_step.

    z keeps its stop-gradient, and the loss its two terms.
    """
    def make_step(run):
        run.model.similarity = lambda p, z: DISTANCES[name](unit(p), unit(z))
        return two_views(run)

    make_step.__name__ = f"{name} {unit.__name__}"
    return make_step


COSINE = "-cosine (half squared, normalised)"
ROWS = [
    Row(COSINE, "", 68.1),
    Row("half squared, raw", make_step=compared_by("half squared", raw)),
    *[Row(f"{name}, {unit.__name__}", make_step=compared_by(name, unit))
      for name in ("L1", "L2", "L-infinity") for unit in (normalised, raw)],
    Row("cross-entropy, normalised", make_step=compared_by("cross-entropy", normalised)),
    Row("cross-entropy, raw", "--similarity cross-entropy", 63.2),
]
CLAIMS = [
    Claim("Nothing collapses", none_collapsed),
    Claim("Nothing is better than the cosine",
          none_above(COSINE, *(row.label for row in ROWS[1:]))),
    Claim("The cosine is better than the distance of raw vectors",
          below("half squared, raw", COSINE)),
    Claim("The cosine is better than the cross-entropy of raw vectors",
          below("cross-entropy, raw", COSINE)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
