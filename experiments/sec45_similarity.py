"""Section 4.5: the cross-entropy of softmaxes instead of the cosine.

    python -m experiments.sec45_similarity

In the paper it is worse, but does not collapse.
"""

import sys

from experiments.claims import below, every_run, is_healthy
from experiments.table import Claim, Row, main

ROWS = [
    Row("cosine", "", 68.1),
    Row("cross-entropy", "--similarity cross-entropy", 63.2),
]
CLAIMS = [
    Claim("The cross-entropy is worse than the cosine", below("cross-entropy", "cosine")),
    Claim("The cross-entropy does not collapse", every_run("cross-entropy", is_healthy)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
