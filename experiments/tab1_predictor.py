"""Table 1: without predictor the outputs collapse; with a fixed one training does not converge.

    python -m experiments.tab1_predictor

The encoder's learning rate decays in every row. The fixed predictor does not collapse: its loss
stays high.
"""

import sys

from experiments.table import Claim, Run, below, collapsed, main, values

DECAYED = "h's lr decayed"
CONSTANT = "h's lr constant"
RUNS = [
    Run(DECAYED, "--predictor-lr cosine", 67.7),
    Run("no predictor", "--predictor none", 0.1),
    Run("h fixed", "--predictor fixed", 1.5),
    Run(CONSTANT, "", 68.1),
]
CLAIMS = [
    Claim("No predictor: collapse (std below 0.3 or rank below 4)",
          lambda last: all(map(collapsed, last["no predictor"]))),
    Claim("A fixed predictor: no collapse, but the loss stays higher than with a learned one",
          lambda last: not any(map(collapsed, last["h fixed"]))
          and min(values(last["h fixed"], "loss")) > max(values(last[CONSTANT], "loss"))),
    Claim("A constant lr of the predictor is better than a decayed one", below(DECAYED, CONSTANT)),
    Claim("Both are better than a fixed predictor", lambda last: below("h fixed", DECAYED)(last)
          and below("h fixed", CONSTANT)(last)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
