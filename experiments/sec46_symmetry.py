"""Section 4.6: the asymmetric loss instead of the symmetric one.

    python -m experiments.sec46_symmetry

In the paper the asymmetric loss is worse, but does not collapse.
"2x" draws two pairs of views per image, to make up for the term that the asymmetric loss lacks.
"""

import sys

from experiments.claims import below, none_collapsed
from experiments.table import Claim, Row, main


def asymmetric_2x(run):
    """A study: the mean of Eq. 3 over two independent pairs of views of the same images."""
    def loss_fn(x1, x2):
        L, z1 = run.model(x1, x2)  # Eq. 3, as --symmetry asymmetric makes it
        other_L, _ = run.model(*run.two_views(run.indices))
        return (L + other_L) / 2, z1

    return loss_fn


ROWS = [
    Row("symmetric", "", 68.1),
    Row("asymmetric", "--symmetry asymmetric", 64.8),
    Row("asymmetric 2x", "--symmetry asymmetric", 67.3, asymmetric_2x),
]
ORDER = "asymmetric", "asymmetric 2x", "symmetric"
CLAIMS = [
    Claim(" < ".join(ORDER), below(*ORDER)),
    Claim("No row collapses", none_collapsed),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
