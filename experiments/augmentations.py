"""Not in the paper: SimSiam without one of its augmentations (Sec. 3, App. A).

    python -m experiments.augmentations

The paper takes the augmentations of earlier work over as they are. They decide what the features
ignore, and which shortcuts are left: without crops both views show the same pixels, without jitter
both have the image's own colours. In SimCLR (arXiv 2002.05709, Fig. 5) no other two do as well as
these together. A user of the official code got 37 % on CIFAR-10 (linear and kNN) without crops and
blur, and 84 % kNN once random crops were back (its issue 9).
Without crops a view shows the whole image. All rows have the learning rate of the recipe; none has
blur, as in App. D.
"""

import sys

from experiments.claims import below, none_collapsed
from experiments.table import Claim, Row, main


def without(name, probability):
    """A study: train.py with one of Augment's probabilities set to 0."""
    def study(run):
        setattr(run.augment, probability, 0.0)
        return run.model

    study.__name__ = f"no {name}"
    return study


ALL, NO_CROP, NO_JITTER = "all augmentations", "no crop", "no colour jitter"
ROWS = [
    Row(ALL),
    Row(NO_CROP, "--crop-min 1"),
    Row(NO_JITTER, study=without("colour jitter", "jitter_p")),
    Row("no grayscale", study=without("grayscale", "gray_p")),
    Row("no flip", study=without("flip", "flip_p")),
]
CLAIMS = [
    Claim("Without crops the features are worse", below(NO_CROP, ALL)),
    Claim("Without colour jitter the features are worse", below(NO_JITTER, ALL)),
    Claim("Whichever augmentation is missing, nothing collapses", none_collapsed),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
