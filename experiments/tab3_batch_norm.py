"""Table 3: batch normalisation in the heads helps the optimisation; it does not prevent collapse.

    python -m experiments.tab3_batch_norm

(a) has no BN in the heads and gets a warm-up, (b) has it on hidden layers only, (c) is the default,
(d) has it on the predictor's output too. The last row is (c) without scale and offset in the last
BN of f. The backbone keeps its BN in every row.
here: (a) has one epoch of warm-up, where the paper has ten of 100, and a tenth of the lr: with the
lr of the other rows it collapses. With a tenth it hardly changes from its initialisation: "hard to
optimise".

What it printed (AMD EPYC, shapes; one thread per run, shared machine):

                                    linear %         kNN %     s  n
    (a) none, lr / 10             18.9 ± 1.5    16.2 ± 0.6   117  3
    (a) none, lr of the others    21.3 ± 1.2    17.4 ± 1.9   102  3
    (b) hidden-only               98.2 ± 0.6    87.3 ± 6.2    95  3
    (c) default                   99.7 ± 0.4    99.3 ± 0.5   117  3
    (d) all                       99.6 ± 0.4    95.7 ± 3.5    81  3
    (c) without affine            99.9 ± 0.1    99.3 ± 0.8    76  3
"""

import sys

from experiments.claims import below, not_collapsed, values
from experiments.logs import SCALES
from experiments.table import Claim, Row, main

NONE = "(a) none, lr / 10"


def ROWS(scale):
    low = SCALES[scale].recipe["lr"] / 10
    return [
        Row(NONE, f"--bn none --lr {low:g} --warmup-epochs 1", 34.6),
        Row("(a) none, lr of the others", "--bn none --warmup-epochs 1", 34.6),
        Row("(b) hidden-only", "--bn hidden", 67.4),
        Row("(c) default", "", 68.1),
        Row("(d) all", "--bn all", "unstable"),
        Row("(c) without affine", "--bn no-affine", 68.2),
    ]


CLAIMS = [
    Claim("Without any BN the features are worse than with BN on the hidden layers",
          below(NONE, "(b) hidden-only")),
    Claim("BN on hidden layers only is worse than the default",
          below("(b) hidden-only", "(c) default")),
    Claim("BN on the predictor's output too is worse than the default",
          below("(d) all", "(c) default"),
          "Its mean is lower, but by less than two standard errors; nor does its loss oscillate"),
    Claim("Without BN, at the lower lr, there is no collapse (rank above 20)",
          lambda last: min(values(last[NONE], "rank")) > 20),
    Claim("Without BN, at the lr of the other rows, there is no collapse",
          not_collapsed("(a) none, lr of the others"),
          "Nothing bounds the outputs of heads without BN; this lr is ten times too high for them"),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
