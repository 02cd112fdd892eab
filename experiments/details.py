"""Not in the paper: three details of its recipe that no table varies.

    python -m experiments.details

The stem: App. D says only "the CIFAR variant of ResNet-18". The projector's depth: three layers in
Sec. 3, two in App. D, which our small recipes follow. The two passes of Algorithm 1, z1 = f(x1) and
z2 = f(x2): in a single pass of all 2N views BN would normalise both views of an image by the same
statistics.
"""

import sys

import torch

from experiments.claims import all_above, below, none_collapsed
from experiments.table import Claim, Row, main


def one_pass(run):
    """A study: f and h see both views as one batch of 2N, so BN has one set of statistics."""
    model = run.model

    def loss_fn(x1, x2):
        z = model.f(torch.cat([x1, x2]))  # (2N, d)
        (z1, z2), (p1, p2) = z.chunk(2), model.h(z).chunk(2)  # (N, d)
        return model.D(p1, z2) / 2 + model.D(p2, z1) / 2, z1

    return loss_fn


RECIPE, STEM, ONE_PASS = "the recipe", "ImageNet stem", "one pass"
ROWS = [
    Row(RECIPE),
    Row(STEM, "--stem imagenet"),
    Row("three-layer projector", "--proj-layers 3"),
    Row(ONE_PASS, study=one_pass),
]
CLAIMS = [
    Claim("With the ImageNet stem the features of small images are worse", below(STEM, RECIPE)),
    Claim("One pass instead of two changes the accuracy by less than two points",
          all_above(RECIPE, ONE_PASS, by=-2) + all_above(ONE_PASS, RECIPE, by=-2)),
    Claim("Nothing collapses", none_collapsed),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
