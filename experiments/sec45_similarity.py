"""Section 4.5: cross-entropy of softmaxes instead of the cosine is worse, but does not collapse.

    python -m experiments.sec45_similarity

What it printed (AMD EPYC, shapes; one thread per run, shared machine):

                       linear %         kNN %     s  n
    cosine           99.7 ± 0.4    99.3 ± 0.5   117  3
    cross-entropy    93.0 ± 0.3    80.7 ± 3.5    77  3
"""

import sys

from experiments.claims import below, not_collapsed
from experiments.table import Claim, Row, main

ROWS = [
    Row("cosine", "", 68.1),
    Row("cross-entropy", "--similarity cross-entropy", 63.2),
]
CLAIMS = [
    Claim("The cross-entropy is worse than the cosine", below("cross-entropy", "cosine")),
    Claim("The cross-entropy does not collapse", not_collapsed("cross-entropy")),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
