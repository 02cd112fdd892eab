"""Section 4.6: the symmetric loss helps accuracy, the asymmetric one does not collapse either.

    python -m experiments.sec46_symmetry

2x draws two pairs of views an image, as many as the symmetric loss has terms.

What it printed (AMD EPYC, shapes; one thread a run, the machine shared):

                       linear %         kNN %     s  n
    symmetric        99.7 ± 0.4    99.3 ± 0.5   117  3
    asymmetric       99.4 ± 0.3    95.9 ± 0.9    59  3
    asymmetric 2x    99.8 ± 0.3    99.7 ± 0.1   105  3
"""

import sys

from experiments.table import Claim, Row, below, collapsed, main

ROWS = [
    Row("symmetric", "", 68.1),
    Row("asymmetric", "--symmetry asymmetric", 64.8),
    Row("asymmetric 2x", "--symmetry asymmetric2x", 67.3),
]
CLAIMS = [
    Claim("asymmetric < asymmetric 2x < symmetric",
          below("asymmetric", "asymmetric 2x", "symmetric"),
          "One asymmetric pair is the worst, as in the paper; the others are too close to 100 %"),
    Claim("No row collapses",
          lambda last: not any(collapsed(r) for records in last.values() for r in records)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
