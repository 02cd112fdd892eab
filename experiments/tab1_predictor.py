"""Table 1: without predictor the outputs collapse; with a fixed one training does not converge.

    python -m experiments.tab1_predictor

The encoder's learning rate decays in every row. With a fixed predictor nothing collapses, but the
loss stays high.
here: without predictor the outputs collapse to few dimensions within 12 epochs and to a point
within 36; the backbone keeps part of what it had learned before (see fig2_stopgrad).

What it printed (AMD EPYC, shapes; one thread per run, shared machine):

                                      linear %         kNN %     s  n
    h's lr decayed                  99.9 ± 0.1    98.7 ± 0.6    89  3
    no predictor                    97.2 ± 1.2    87.2 ± 3.0    92  3
    h fixed                         95.1 ± 0.9    88.1 ± 4.0    80  3
    h's lr constant                 99.7 ± 0.4    99.3 ± 0.5   117  3
    no predictor, 3 x the epochs   70.8 ± 15.5   77.0 ± 10.5   420  3
"""

import sys

from experiments.claims import below, collapsed, values
from experiments.table import Claim, Row, main

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
    Claim("Without predictor the outputs collapse (std below 0.3 or rank below 4)",
          lambda last: all(map(collapsed, last["no predictor"]))),
    Claim("Without predictor, after three times the epochs, all outputs agree (std below 0.01,"
          " rank below 2)", lambda last: all(r["std"] < 0.01 and r["rank"] < 2
                                             for r in last["no predictor, 3 x the epochs"])),
    Claim("Its features are worse than with a predictor",
          below("no predictor, 3 x the epochs", CONSTANT)),
    Claim("With a fixed predictor nothing collapses, but the loss stays higher than with a learned"
          " one",
          lambda last: not any(map(collapsed, last["h fixed"]))
          and min(values(last["h fixed"], "loss")) > max(values(last[CONSTANT], "loss"))),
    Claim("A constant lr of the predictor is better than a decayed one", below(DECAYED, CONSTANT),
          "Both are so close to 100 % that there is nothing left to gain"),
    Claim("Both are better than a fixed predictor", lambda last: below("h fixed", DECAYED)(last)
          and below("h fixed", CONSTANT)(last)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
