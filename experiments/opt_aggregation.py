"""The course project's study of aggregation: how should the two terms of Eq. 4 become one loss?

    python -m experiments.opt_aggregation

For one image let a and b be the two cosines, u = 1 - a and v = 1 - b their distances in [0, 2], and
s = (1 + a) / 2 and t = (1 + b) / 2 similarities in [0, 1]. A mean of negative cosines that is not
arithmetic need not exist; of distances or similarities it does. What each does to the gradient:

    arithmetic          (u + v) / 2               both weigh 1/2: Eq. 4 up to the constant 1
    geometric of u, v   sqrt(u v)                 u weighs sqrt(v / u) / 2: the better term gets
                                                  more, without bound as u goes to 0 but for EPS
    geometric of s, t   2 (1 - sqrt(s t))         u weighs sqrt(t / s) / 2: the worse gets more
    harmonic of s, t    2 (1 - 2 s t / (s + t))   u weighs 2 (t / (s + t))^2: the more so
    max                 max(u, v)                 the worse term gets everything
    squared mean        (u^2 + v^2) / 4           u weighs u / 2: what is nearly aligned fades, and
                                                  the effective lr falls with the loss

Taken image by image, for the means over a batch are nearly equal; where u = v all but the squared
mean have the gradient of the arithmetic one. The losses of the table are these minus 1, as Eq. 4's.
The ancestor's geometric mean was never written.

What it printed (AMD EPYC, shapes; one thread a run, the machine shared):

                                   linear %         kNN %     s  n
    arithmetic (Eq. 4)           99.7 ± 0.4    99.3 ± 0.5   117  3
    geometric of distances       99.5 ± 0.3    97.0 ± 1.6   112  3
    geometric of similarities    99.9 ± 0.2    98.8 ± 1.3   115  3
    harmonic of similarities     99.9 ± 0.1    99.2 ± 0.7   116  3
    maximum                      99.5 ± 0.5    97.6 ± 2.2   113  3
    squared mean                 99.2 ± 0.4    96.3 ± 0.2   110  3
"""

import sys

import torch

from experiments.table import Claim, Row, main, none_above, none_collapsed
from simsiam import negative_cosine

EPS = 1e-3


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
    """SimSiam whose two distances of each image are aggregated by `mean`: a make_step."""

    def make_step(run):
        def loss_of(indices):
            z1, z2 = map(run.model.f, run.views(indices))
            p1, p2 = run.model.h(z1), run.model.h(z2)
            u = 1 + negative_cosine(p1, z2.detach())  # (N,) in [0, 2]
            v = 1 + negative_cosine(p2, z1.detach())
            return mean(u, v).mean() - 1, z1

        return loss_of

    make_step.__name__ = mean.__name__.replace("_", " ")
    return make_step


ARITHMETIC = "arithmetic (Eq. 4)"
ROWS = [
    Row(ARITHMETIC, "", 68.1),
    *[Row(mean.__name__.replace("_", " "), make_step=aggregated_by(mean))
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
