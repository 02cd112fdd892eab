"""Table 1: without predictor the outputs collapse; with a fixed one training does not converge.

    python -m experiments.tab1_predictor

The encoder's learning rate decays in every row. The fixed predictor does not collapse: its loss
stays high.
here: without predictor the outputs collapse within 12 epochs, the features only in 36.
"""

import sys

from experiments.table import Claim, Row, below, collapsed, main, values

DECAYED = "h's lr decayed"
CONSTANT = "h's lr constant"
ROWS = [
    Row(DECAYED, "--predictor-lr cosine", 67.7),
    Row("no predictor", "--predictor none", 0.1),
    Row("h fixed", "--predictor fixed", 1.5),
    Row(CONSTANT, "", 68.1),
    Row("no predictor, 3 x the epochs", "--predictor none", 0.1, times=3),
]
CLAIMS = [
    Claim("No predictor: collapse (std below 0.3 or rank below 4)",
          lambda last: all(map(collapsed, last["no predictor"]))),
    Claim("No predictor, three times the epochs: the features are no better than an untrained"
          " network's (kNN below 20 %)",
          lambda last: max(values(last["no predictor, 3 x the epochs"], "knn")) < 20),
    Claim("A fixed predictor: no collapse, but the loss stays higher than with a learned one",
          lambda last: not any(map(collapsed, last["h fixed"]))
          and min(values(last["h fixed"], "loss")) > max(values(last[CONSTANT], "loss"))),
    Claim("A constant lr of the predictor is better than a decayed one", below(DECAYED, CONSTANT)),
    Claim("Both are better than a fixed predictor", lambda last: below("h fixed", DECAYED)(last)
          and below("h fixed", CONSTANT)(last)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
