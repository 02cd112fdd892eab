"""Table 1: SimSiam without predictor, with a fixed one, and with one whose lr does not decay.

    python -m experiments.tab1_predictor

In the paper the outputs collapse without predictor, and with a fixed one training does not
converge. It also says, giving no number, that without predictor the asymmetric loss fails as well.
The encoder's learning rate decays in every row; the predictor's own is what differs between the
first row and the last.
"""

import sys

from experiments.claims import below, every_run, has_collapsed, is_healthy, none_above
from experiments.references import UNTRAINED
from experiments.table import Claim, Row, main

DECAYED, CONSTANT = "h's lr decayed", "(c) h's lr constant"
NONE, FIXED = "(a) no predictor", "(b) h fixed"
ASYMMETRIC = "no predictor, asymmetric loss"
ROWS = [
    Row(DECAYED, "--predictor-lr cosine", 67.7),
    Row(NONE, "--predictor none", 0.1),
    Row(ASYMMETRIC, "--predictor none --symmetry asymmetric", "fails"),
    Row(FIXED, "--predictor fixed", 1.5),
    Row(CONSTANT, "", 68.1),
]
CLAIMS = [
    Claim("(a) Without predictor the outputs collapse", every_run(NONE, has_collapsed)),
    Claim("(a) Without predictor the features are worse than with one", below(NONE, CONSTANT)),
    Claim("(a) Without predictor the outputs collapse with the asymmetric loss, too",
          every_run(ASYMMETRIC, has_collapsed)),
    Claim("(b) With a fixed predictor nothing collapses", every_run(FIXED, is_healthy)),
    Claim("(b) With a fixed predictor the loss stays higher than with a learned one",
          below(CONSTANT, FIXED, key="loss")),
    Claim("(b) With a fixed predictor the features are worse than with a learned one",
          below(FIXED, CONSTANT)),
    Claim("(b) With a fixed predictor the features are no better than an untrained network's"
          " (paper: 1.5 %)",
          none_above(UNTRAINED.label, FIXED)),
    Claim("(c) A constant lr of the predictor is better than a decayed one",
          below(DECAYED, CONSTANT)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
