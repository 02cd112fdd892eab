"""Section 4.5: the cross-entropy of softmaxes in place of the cosine: worse, but no collapse.

    python -m experiments.sec45_similarity
"""

import sys

from experiments.table import Claim, Run, below, main, values

RUNS = [
    Run("cosine", "", 68.1),
    Run("cross-entropy", "--similarity cross-entropy", 63.2),
]
CLAIMS = [
    Claim("The cross-entropy is worse than the cosine", below("cross-entropy", "cosine")),
    Claim("The cross-entropy does not collapse (std above 0.5, rank above 4)",
          lambda last: min(values(last["cross-entropy"], "std")) > 0.5
          and min(values(last["cross-entropy"], "rank")) > 4),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
