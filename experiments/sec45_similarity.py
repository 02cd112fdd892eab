"""Section 4.5: the cross-entropy of softmaxes in place of the cosine: worse, but no collapse.

    python -m experiments.sec45_similarity
"""

import sys

from experiments.table import Claim, Row, below, collapsed, main

ROWS = [
    Row("cosine", "", 68.1),
    Row("cross-entropy", "--similarity cross-entropy", 63.2),
]
CLAIMS = [
    Claim("The cross-entropy is worse than the cosine", below("cross-entropy", "cosine")),
    Claim("The cross-entropy does not collapse",
          lambda last: not any(map(collapsed, last["cross-entropy"]))),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
