"""The course project's study of aggregation: how should the two terms of Eq. 4 become one loss?

    python -m experiments.opt_aggregation

For one image let a and b be the two cosines, u = 1 - a and v = 1 - b their distances in [0, 2], and
s = (1 + a) / 2 and t = (1 + b) / 2 similarities in [0, 1]. Negative cosines have an arithmetic
mean, but not every other mean; distances and similarities have all of these. On the right: the
weight of u in the gradient.

    arithmetic          (u + v) / 2               1 / 2; this is Eq. 4, plus 1
    geometric of u, v   √(u v)                    √(v / u) / 2: the better term gets more,
                                                  bounded only by EPS as u → 0
    geometric of s, t   2 (1 - √(s t))            √(t / s) / 2: the worse term gets more,
                                                  bounded only by EPS as s → 0
    harmonic of s, t    2 (1 - 2 s t / (s + t))   2 (t / (s + t))²: the worse term's share is
                                                  larger still, but its weight at most 2
    maximum             max(u, v)                 1 or 0: the worse term gets everything
    squared mean        (u² + v²) / 4             u / 2: a nearly aligned pair counts little,
                                                  and the effective lr falls with the loss

All are taken image by image, because over a batch the means of u and v are nearly equal. Where
u = v, all but the squared mean have the gradient of the arithmetic one. The losses shown are these
minus 1, like Eq. 4's. (The earlier course project announced a geometric mean but never wrote it.)
"""

import sys

import torch

from experiments.claims import none_above, none_collapsed
from experiments.table import Claim, Row, main
from simsiam import negative_cosine

EPS = 1e-3  # bounds the gradients of the roots, and keeps 0 / 0 out of the quotient


def geometric_of_distances(u, v):
    return ((u + EPS) * (v + EPS)).sqrt()


def geometric_of_similarities(u, v):
    return 2 * (1 - ((1 - u / 2 + EPS) * (1 - v / 2 + EPS)).sqrt())


def harmonic_of_similarities(u, v):
    s, t = 1 - u / 2, 1 - v / 2
    return 2 * (1 - 2 * s * t / (s + t + EPS))


def maximum(u, v):
    return torch.maximum(u, v)


def squared_mean(u, v):
    return (u.square() + v.square()) / 4


def aggregated_by(mean):
    """A study: SimSiam with mean(u, v) of the two distances of each image as its loss."""
    def study(run):
        f, h = run.model.f, run.model.h

        def loss_fn(x1, x2):
            z1, z2 = f(x1), f(x2)
            p1, p2 = h(z1), h(z2)
            # Not model.D: it takes the mean over the batch first, and hides the individual images.
            u = 1 + negative_cosine(p1, z2.detach())  # (N,) in [0, 2]
            v = 1 + negative_cosine(p2, z1.detach())
            return mean(u, v).mean() - 1, z1

        return loss_fn

    study.__name__ = mean.__name__.replace("_", " ")
    return study


ARITHMETIC = "arithmetic (Eq. 4)"
ROWS = [
    Row(ARITHMETIC, "", 68.1),
    *[Row(mean.__name__.replace("_", " "), study=aggregated_by(mean))
      for mean in (geometric_of_distances, geometric_of_similarities, harmonic_of_similarities,
                   maximum, squared_mean)],
]
CLAIMS = [
    Claim("Nothing collapses", none_collapsed),
    Claim("No other mean is better than the arithmetic one",
          none_above(ARITHMETIC, *(row.label for row in ROWS[1:]))),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
