"""Not in the paper: how much the results depend on the recipe for shapes, and two ways to fail.

    python -m experiments.shapes_robustness

Halved and doubled learning rate, halved batch, other output dimensions, backbone in bfloat16.
A shortcut: images that are tinted as a whole can be told apart by colour, so the shapes are not
learned, and nothing collapses.
Collapse behind a BN without γ and β: the std need not vanish, because BN subtracts what all outputs
share and scales up the rest.
On photographs and at the scale cifar there is nothing to run.
"""

import sys

from experiments.claims import all_above, below, every_run, is_healthy
from experiments.logs import SCALES
from experiments.table import Claim, Row, main
from simsiam import COLLAPSED_STD

NEIGHBOURS = "lr halved", "lr doubled", "batch halved", "d = 64", "d = 512"
NO_AFFINE = "no stop-gradient, no affine"


def ROWS(scale):
    if scale not in ("shapes", "smoke"):
        return []
    lr, batch = (SCALES[scale].recipe[key] for key in ("lr", "batch_size"))
    options = (f"--lr {lr / 2:g}", f"--lr {lr * 2:g}", f"--batch-size {batch // 2}", "--dim 64",
               "--dim 512")
    return [
        Row("the recipe"),
        *map(Row, NEIGHBOURS, options),
        Row("bfloat16", "--bf16"),
        Row("tinted images", "--data shapes-tinted"),
        Row(NO_AFFINE, "--no-stopgrad --bn no-affine"),
    ]


CLAIMS = [
    Claim("No nearby setting is more than ten points below the recipe",
          all_above("the recipe", *NEIGHBOURS, by=-10)),
    Claim("bfloat16 costs at most two points", all_above("the recipe", "bfloat16", by=-2)),
    Claim("Tinted images: nothing collapses", every_run("tinted images", is_healthy)),
    Claim("Tinted images: the features are more than thirty points below the recipe's",
          below("tinted images", "the recipe", by=30)),
    Claim(f"Without stop-gradient and affine the std does not vanish (above {COLLAPSED_STD})",
          every_run(NO_AFFINE, lambda record: record["std"] > COLLAPSED_STD)),
    Claim("Without stop-gradient and affine the features are worse than the recipe's",
          below(NO_AFFINE, "the recipe")),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
