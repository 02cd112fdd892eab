"""Figure 3: one family of methods, and the parts that each of them has, read off its code.

    python -m experiments.fig3_family

The paper draws SimCLR, BYOL, SwAV and SimSiam as one pair of encoders with different parts. Here a
method has a part if its module or class defines what implements it (PARTS), if its predictor has
weights, or if its loss has a stop-gradient. A momentum encoder implies a stop-gradient, because no
gradient reaches it. Barlow Twins and VICReg came later. The runs are those of tab4_comparisons.
"""

import sys

import options
from experiments.tab4_comparisons import ROWS
from experiments.table import Claim, main
from utils.plot import new_figure, save_figure

PARTS = {  # part: the names of what implements it
    "negative pairs": ("nt_xent", "info_nce"),
    "momentum encoder": ("f_t",),
    "predictor": (),
    "stop-gradient": ("f_t",),
    "clustering": ("sinkhorn",),
    "decorrelation": ("redundancy", "covariance"),
}


def parts(row):
    """The parts that the method of a row has, a set of keys of PARTS."""
    args = options.fill_in(options.parse(row.options.split()), image_size=24)
    model = options.build(args)
    defined = {*vars(sys.modules[type(model).__module__]), *vars(type(model))}
    found = {part for part, names in PARTS.items() if defined & set(names)}
    # "none" is an nn.Identity, without weights.
    found |= {"predictor"} if any(True for _ in model.h.parameters()) else set()
    return found | ({"stop-gradient"} if args.stopgrad else set())


CLAIMS = [
    Claim("SimSiam has neither negative pairs, nor a momentum encoder, nor clusters",
          lambda _: parts(next(row for row in ROWS if row.label == "SimSiam"))
          == {"predictor", "stop-gradient"}),
    Claim("Every method has at least one of these parts", lambda _: all(map(parts, ROWS))),
]


def figure(logs, path):
    """A grid of methods and parts, with the linear accuracy of seed 0."""
    drawing, axis = new_figure(1, width=8)
    for y, row in enumerate(ROWS):
        for x, part in enumerate(PARTS):
            axis.scatter(x, y, s=90, facecolor="black" if part in parts(row) else "none",
                         edgecolor="0.7" if part not in parts(row) else "black")
        if row.label in logs:
            axis.text(len(PARTS) - 0.4, y, f"{logs[row.label][0]['top1']:.1f}", va="center")
    axis.text(len(PARTS) - 0.4, -0.9, "linear (%)", va="center")
    axis.set_xticks(range(len(PARTS)), [part.replace(" ", "\n") for part in PARTS])
    axis.set_yticks(range(len(ROWS)), [row.label for row in ROWS])
    axis.set(xlim=(-0.5, len(PARTS) + 0.4), ylim=(len(ROWS) - 0.5, -1.4))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    save_figure(drawing, path)


if __name__ == "__main__":
    main(sys.modules[__name__])
