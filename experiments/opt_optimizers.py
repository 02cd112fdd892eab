"""The course project's study of optimisers, each at its own best learning rate.

    python -m experiments.opt_optimizers

Every optimiser gets the same grid of five base learning rates, one run of seed 0 each. The best by
kNN (on the test images, because there is no third split) is then repeated with the other seeds,
and so is Adam at SGD's lr.
If it is at the edge of the grid, there may be a better one beyond. Schedule, batch and the number
for weight decay are the recipe's; AdamW multiplies that number by its lr. SGD and LARS are those of
optim.py, the others torch.optim's.
Averaged SGD (Polyak): over the last quarter of the run the mean of the weights is kept; at the end
it replaces them, and BN's running statistics are computed anew, from one view of each training
image. Its accuracies are those of the mean; its loss, std and rank those of the last weights.
(The earlier course project ran Adam at SGD's lr, and its "averaged SGD" never averaged.)
"""

import sys

import torch
from torch import nn

from experiments import logs
from experiments.claims import below, none_above
from experiments.logs import SCALES
from experiments.table import Claim, Row, main
from optim import LARS, SGD
from utils.plot import line_style, new_figure, save_figure

GRID = (0.001, 0.01, 0.1, 1.0, 10.0)  # times the recipe's base lr


class Torch:
    """An optimiser of torch.optim behind the methods of optim.SGD."""

    def __init__(self, kind, param_groups, weight_decay, **options):
        self.param_groups = param_groups
        self.optimizer = kind([{"params": group} for group in param_groups], lr=0.0,
                              weight_decay=weight_decay, **options)
        self.zero_grad, self.state_dict = self.optimizer.zero_grad, self.optimizer.state_dict
        self.load_state_dict = self.optimizer.load_state_dict

    def step(self, *lrs):
        # torch keeps the lr in its groups, where optim.SGD is told it at each step.
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        self.optimizer.step()


class Averaged(SGD):
    """SGD whose weights become, at the end of the run, their mean over its last quarter."""

    def __init__(self, param_groups, weight_decay, run):
        super().__init__(param_groups, weight_decay=weight_decay)
        self.run, self.n = run, 0  # n: how many weights the mean is taken over
        self.mean = [[torch.zeros_like(w) for w in group] for group in self.param_groups]

    @torch.no_grad()
    def step(self, *lrs):
        super().step(*lrs)
        steps, done = self.run.total_steps, self.run.state.step + 1
        self.n += done > 3 * steps // 4
        for group, means in zip(self.param_groups, self.mean):
            for w, mean in zip(group, means):
                if self.n:
                    mean.lerp_(w, 1 / self.n)  # mean ← mean + (w - mean) / n
                if done == steps:
                    w.copy_(mean)
        if done == steps:
            # With these weights the network has never run, so its statistics are still unknown.
            recompute_statistics(self.run)

    def state_dict(self):
        return {**super().state_dict(), "mean": self.mean, "n": self.n}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.n = state["n"]
        for mine, saved in zip(self.mean, state["mean"], strict=True):
            for m, s in zip(mine, saved, strict=True):
                m.copy_(s)


@torch.no_grad()
def recompute_statistics(run):
    """Make the backbone's running statistics means over one view of each training image."""
    # Only the backbone's: kNN and the linear probe do not use the heads.
    layers = [m for m in run.model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean of all batches
    for x in run.images.train.split(run.args.batch_size):
        run.model.backbone(run.augment(x))


OPTIMIZERS = {
    "SGD": lambda groups, wd, run: SGD(groups, weight_decay=wd),
    "SGD, no momentum": lambda groups, wd, run: SGD(groups, momentum=0.0, weight_decay=wd),
    "Nesterov": lambda groups, wd, run: Torch(
        torch.optim.SGD, groups, wd, momentum=0.9, nesterov=True),
    "Adam": lambda groups, wd, run: Torch(torch.optim.Adam, groups, wd),
    "AdamW": lambda groups, wd, run: Torch(torch.optim.AdamW, groups, wd),
    "LARS": lambda groups, wd, run: LARS(groups, weight_decay=wd),
    "averaged SGD": Averaged,
}


def optimized_by(name):
    """A study: SimSiam with another optimiser; None for train.py's own."""
    def study(run):
        run.optimizer = OPTIMIZERS[name](run.optimizer.param_groups, run.args.weight_decay, run)
        return run.model

    study.__name__ = name
    return None if name == "SGD" else study


def grid(name, scale):
    """The rows of one optimiser, seed 0 only."""
    recipe = SCALES[scale].recipe["lr"]  # SGD's run at this lr needs no flag: it is in every table
    lrs = [f"{recipe * factor:g}" for factor in (GRID[2:4] if scale == "smoke" else GRID)]
    return [Row(f"{name}, lr {lr}", f"--lr {lr}" if (name, lr) != ("SGD", f"{recipe:g}") else "",
                study=optimized_by(name), seeds=1) for lr in lrs]


def best(rows, scale):
    """The row whose seed 0 has the best kNN; None before all have run."""
    runs = [logs.read_log(row, scale, 0) for row in rows]
    if all(runs):
        knn = [records[-1]["knn"] for _, records in runs]
        return rows[knn.index(max(k for k in knn if k == k))]  # a diverged run has NaN, k != k


def ROWS(scale):
    rows, adam = [], f"Adam, lr {SCALES[scale].recipe['lr']:g}"
    for name in OPTIMIZERS:
        tried = grid(name, scale)
        repeated = best(tried, scale), *(row for row in tried if row.label == adam)
        rows += [row._replace(seeds=None) if row in repeated else row for row in tried]
    return rows


def CLAIMS(scale):
    tuned = {name: best(grid(name, scale), scale) for name in OPTIMIZERS}
    # Before the grids have run the rows are unknown; there is no row of these names.
    at_its_best = {name: row.label if row else f"{name} at its best" for name, row in tuned.items()}
    sgd, adam = at_its_best["SGD"], at_its_best["Adam"]
    return [
        Claim("At its own best lr no optimiser is better than SGD at its own",
              none_above(sgd, *(label for label in at_its_best.values() if label != sgd))),
        Claim("At SGD's learning rate Adam is worse than at its own",
              below(f"Adam, lr {SCALES[scale].recipe['lr']:g}", adam)),
    ]


def figure(logs, path):
    """kNN over the learning rate."""
    drawing, axis = new_figure(1, width=7)
    for i, name in enumerate(OPTIMIZERS):
        points = [(float(label.rpartition(" ")[2]), records[-1]["knn"])
                  for label, (_, records) in logs.items() if label.rpartition(",")[0] == name]
        axis.semilogx(*zip(*points), label=name, **line_style(i, len(OPTIMIZERS)))
    axis.set(title="seed 0", xlabel="base learning rate", ylabel="kNN accuracy (%)", ylim=(0, 102))
    save_figure(drawing, path)


if __name__ == "__main__":
    main(sys.modules[__name__])
