"""The course project's study of similarity functions: how should p and z be compared?

    python -m experiments.opt_losses

By -cosine, cross-entropy, or half the squared, the L1, L2 or L-infinity distance, each of raw and
of normalised vectors. They are scaled so that all can share one lr: raw vectors are divided by √d,
the length that BN gives to z at the start; L1 is divided by √d, which makes it at most L2; and the
softmaxes are of vectors times √d, so that those of raw vectors are Sec. 4.5's. Losses of raw
vectors can also fall because z shrinks, and the gradient shrinks with it.
Half the squared distance of normalised vectors is 1 - cosine (Sec. 3): they share a row, and a test
checks it. The dot product of raw vectors has no minimum, hence no row.
(The earlier course project's p2 and pinf compared raw vectors; its cross-entropy was divided by d.)
"""

import functools
import sys

import torch.nn.functional as F

from experiments.claims import below, none_above, none_collapsed
from experiments.table import Claim, Row, main
from simsiam import D, cross_entropy


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


def compared_by(name, prepare):
    """A study: SimSiam with this distance of raw or normalised vectors instead of the cosine."""
    def study(run):
        similarity = lambda p, z: DISTANCES[name](prepare(p), prepare(z))
        run.model.D = functools.partial(D, similarity=similarity)  # z keeps its stop-gradient
        return run.model

    study.__name__ = f"{name} {prepare.__name__}"
    return study


COSINE = "-cosine (half squared, normalised)"
ROWS = [
    Row(COSINE, "", 68.1),
    Row("half squared, raw", study=compared_by("half squared", raw)),
    *[Row(f"{name}, {prepare.__name__}", study=compared_by(name, prepare))
      for name in ("L1", "L2", "L-infinity") for prepare in (normalised, raw)],
    Row("cross-entropy, normalised", study=compared_by("cross-entropy", normalised)),
    Row("cross-entropy, raw", "--similarity cross-entropy", 63.2),
]
CLAIMS = [
    Claim("Nothing collapses", none_collapsed),
    Claim("Nothing is better than the cosine",
          none_above(COSINE, *(row.label for row in ROWS[1:]))),
    Claim("The cosine is better than the squared distance of raw vectors",
          below("half squared, raw", COSINE)),
    Claim("The cosine is better than the cross-entropy of raw vectors",
          below("cross-entropy, raw", COSINE)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
