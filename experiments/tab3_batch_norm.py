"""Table 3: the effect of batch normalisation in the heads.

    python -m experiments.tab3_batch_norm

In the paper BN helps the optimisation, but does not prevent collapse. (a) has no BN in the heads
and gets a warm-up, (b) has it on hidden layers only, (c) is the default, (d) has it on the
predictor's output too. The last row is (c) without scale and offset in the last BN of f. The
backbone keeps its BN in every row.
here: (a) has one epoch of warm-up; the paper's has ten of 100, as at the cifar scale. It is run
twice, because the lr of a small network may be far too high for heads without BN. (b) at the lower
lr is its control.
"""

import sys

from experiments.claims import all_above, below, every_run, is_healthy, none_collapsed
from experiments.logs import SCALES
from experiments.table import Claim, Row, main

NONE, NONE_FAST = "(a) none, lr / 10", "(a) none, lr of the others"


def ROWS(scale):
    low = SCALES[scale].recipe["lr"] / 10
    warmup = f"--warmup-epochs {10 if scale == 'cifar' else 1}"
    return [
        Row(NONE, f"--bn none --lr {low:g} {warmup}"),
        Row(NONE_FAST, f"--bn none {warmup}", 34.6),
        Row("(b) hidden-only, lr / 10", f"--bn hidden --lr {low:g} {warmup}"),
        Row("(b) hidden-only", "--bn hidden", 67.4),
        Row("(c) default", "", 68.1),
        Row("(d) all", "--bn all", "unstable"),
        Row("(c) without affine", "--bn no-affine", 68.2),
    ]


CLAIMS = [
    Claim("(a, lr / 10) < (b) < (c)", below(NONE, "(b) hidden-only", "(c) default")),
    Claim("(d), BN on the predictor's output too, is worse than (c)",
          below("(d) all", "(c) default")),
    Claim("(c) without affine is at most one point below (c) (paper: 0.1 above)",
          all_above("(c) default", "(c) without affine", by=-1)),
    Claim("(a) Without BN in the heads, at a tenth of the lr, the outputs do not collapse",
          every_run(NONE, is_healthy)),
    Claim("(a) Without it, at the lr of the other rows, they do not collapse either",
          every_run(NONE_FAST, is_healthy)),
    Claim("(b), (c) and (d) do not collapse", lambda last: none_collapsed(
        {label: last[label] for label in ("(b) hidden-only", "(c) default", "(d) all",
                                          "(c) without affine")})),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
