"""Table 2: the effect of the batch size, with the lr scaled in proportion.

    python -m experiments.tab2_batch_size

In the paper SimSiam works over a wide range of batch sizes. Batches of 1024 or more get a warm-up,
as they do there.
here: the warm-up is one epoch, a fifth of a run on photographs; the paper's is ten of 100, as at
the cifar scale. Except there, the lr was chosen at batch 64, and there is a row for 32 and none
above 1024, because the runs would have too few steps.
"""

import sys

from experiments.claims import all_above, none_collapsed
from experiments.logs import SCALES
from experiments.table import Claim, Row, main

PAPER = {64: 66.1, 128: 67.3, 256: 68.1, 512: 68.1, 1024: 68.0, 2048: 67.9, 4096: 64.0}


def ROWS(scale):
    sizes = PAPER if scale == "cifar" else (32, 64, 128, 256, 512, 1024)
    warmup = f" --warmup-epochs {10 if scale == 'cifar' else 1}"
    # The recipe's own batch needs no flag, so its run is shared with the other tables.
    own = SCALES[scale].recipe["batch_size"]
    return [Row(str(size), "" if size == own else f"--batch-size {size}" + warmup * (size >= 1024),
                PAPER.get(size, "")) for size in sizes]


CLAIMS = [
    Claim("From 64 to 1024 no batch size is more than two points below 256 (paper: 2.0)",
          all_above("256", "64", "128", "512", "1024", by=-2)),
    Claim("No batch size leads to collapse", none_collapsed),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
