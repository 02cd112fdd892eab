"""The course project's study of optimisers, each at its own best learning rate.

    python -m experiments.opt_optimizers

Every optimiser starts with the same grid of base learning rates, one run of seed 0 each. They are
judged by kNN on a tenth of the training images, which is not trained on ("held out"). While the
best is at an edge of the grid, ten times or a tenth of it is tried, too. On photographs these runs
are shorter and fewer: two epochs, and at first only the rates, relative to the recipe's, that had
at least half of the best kNN on shapes. The best rate is then run on the whole set with all seeds,
and so is Adam at the recipe's lr. Schedule, batch and weight decay are the recipe's; AdamW applies
the decay outside its adaptive step. SGD and LARS are those of optim.py, the others torch.optim's.
LARS has neither decay nor trust ratio for vectors, which move at the full lr.
Averaged SGD (Polyak): over the last quarter of the run the mean of the weights is kept; at the end
it replaces them, and BN's running statistics are computed anew, from one view of each training
image. Its accuracies are those of the mean; its loss, std and rank those of the last weights.
(The earlier course project ran Adam at SGD's lr, and its "averaged SGD" never averaged.)
"""

import sys
from math import isnan

import torch
from torch import nn

from experiments import logs
from experiments.claims import below, none_above
from experiments.logs import SCALES
from experiments.table import Claim, Row, main
from optim import LARS, SGD
from utils.plot import line_style, new_figure, save_figure

# The first learning rates of a grid, times the recipe's. Three would be too few: on shapes Adam has
# a maximum at the recipe's, and a far higher one at a hundredth of it.
GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
# Full runs of 35 rates would take four to seven hours of one core. Two epochs of nine tenths of the
# photographs are 1,406 steps; such a run on shapes has 1,140.
SHORTER = {"photographs": " --epochs 2"}
HELD_OUT = ", held out"
NOTE = ("Each optimiser's learning rate is the best of its rows called held out. Their kNN is that"
        " of a tenth of the training images, which they were not trained on; no test image played"
        " a part in the choice. On shapes two rates whose kNN differs by less than about four"
        " points cannot be told apart by 410 images, and seeds differ by more. On photographs these"
        " runs have two epochs, and a grid starts with the rates, relative to the recipe's, that"
        " had at least half of the best kNN on shapes, as was decided before the first of them. A"
        " grid is widened while its best is at its edge. On shapes this has been so only since 29"
        " November 2026: until then 20 was the highest lr, and the best for SGD without momentum,"
        " AdamW and LARS. The grids use seed 0, as does one of the three runs of each row: these"
        " share initial weights, but not batches and views, because the grids train on fewer"
        " images. Averaged SGD was run again on shapes when its statistics were no longer taken"
        " from the images in the order of the files (seed 0: 94.3 % linear as before).")


class Torch:
    """An optimiser of torch.optim behind the methods of optim.SGD."""

    def __init__(self, kind, param_groups, weight_decay, **options):
        self.optimizer = kind([{"params": group} for group in param_groups], lr=0.0,
                              weight_decay=weight_decay, **options)
        self.zero_grad, self.state_dict = self.optimizer.zero_grad, self.optimizer.state_dict

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)
        for own in self.optimizer.state.values():
            if "step" in own:  # Adam's; a checkpoint puts it on the GPU, where reading it waits
                own["step"] = own["step"].cpu()

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
            # The network has never run with these weights, so its statistics are still unknown.
            recompute_statistics(self.run)

    def state_dict(self):
        return {**super().state_dict(), "mean": self.mean, "n": self.n}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.mean, self.n = state["mean"], state["n"]


@torch.no_grad()
def recompute_statistics(run):
    """Make the backbone's running statistics means over one view of each training image."""
    # Only the backbone's: kNN and the linear probe do not use the heads.
    layers = [m for m in run.model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean of all batches
    # Folders are sorted by class, and the statistics of one class are not those of all.
    for i in torch.randperm(len(run.images.train)).split(run.args.batch_size):
        run.model.backbone(run.augment(run.images.train[i].to(run.args.device)))


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


def full_row(name, lr, scale):
    """The row of an optimiser with this lr."""
    recipe = f"{SCALES[scale].recipe['lr']:g}"
    # SGD's run at the recipe's lr needs no flag: it is in every table.
    flag = f"--lr {lr}" if (name, lr) != ("SGD", recipe) else ""
    return Row(f"{name}, lr {lr}", flag, study=optimized_by(name))


def grid(name, scale):
    """{lr: row} of one optimiser, seed 0 only, on held-out images.

    It grows by one lr when all of its runs are done and the best is the lowest or the highest.
    """
    recipe, factors = SCALES[scale].recipe["lr"], first_factors(name, scale)
    while True:
        rows = {lr: Row(f"{name}, lr {lr}{HELD_OUT}", f"--lr {lr}{SHORTER.get(scale, '')}",
                        study=optimized_by(name), seeds=1, held_out=True)
                for lr in (f"{recipe * factor:g}" for factor in factors)}
        lowest, highest = [*rows][0], [*rows][-1]
        top = best_lr(rows, scale)
        if top not in (lowest, highest) or scale == "smoke":  # whose accuracies mean nothing
            return rows
        factors = (*factors, factors[-1] * 10) if top == highest else (factors[0] / 10, *factors)


def first_factors(name, scale):
    """The learning rates that a grid starts with, times the recipe's."""
    if scale == "smoke":
        return GRID[2:4]
    on_shapes = accuracies(grid(name, "shapes"), "shapes") if scale == "photographs" else {}
    return [float(lr) / SCALES["shapes"].recipe["lr"] for lr, knn in on_shapes.items()
            if knn >= max(on_shapes.values()) / 2] or GRID


def accuracies(rows, scale):
    """{lr: kNN} of {lr: row}; {} before all have run."""
    tried = {lr: logs.read_log(row, scale, 0) for lr, row in rows.items()}
    if not all(tried.values()):
        return {}
    knn = {lr: records[-1]["knn"] for lr, (_, records) in tried.items()}
    # A run that diverged has NaN.
    return {lr: 0.0 if isnan(percent) else percent for lr, percent in knn.items()}


def best_lr(rows, scale):
    """The lr of the best kNN in {lr: row}, in a tie the middle one; None before all have run."""
    knn = accuracies(rows, scale)
    top = [lr for lr in knn if knn[lr] == max(knn.values())]
    return top[len(top) // 2] if top else None  # at an edge the grid would grow for nothing


def best(name, scale):
    """The row on the whole set with the best lr of an optimiser's grid; None before it is known."""
    lr = best_lr(grid(name, scale), scale)
    return lr and full_row(name, lr, scale)


def ROWS(scale):
    tried = [row for name in OPTIMIZERS for row in grid(name, scale).values()]
    tuned = filter(None, (best(name, scale) for name in OPTIMIZERS))
    full = [*tuned, full_row("Adam", f"{SCALES[scale].recipe['lr']:g}", scale)]
    return [*{row.label: row for row in full}.values(), *tried]


def CLAIMS(scale):
    tuned = {name: best(name, scale) for name in OPTIMIZERS}
    if not all(tuned.values()):
        return []  # before the grids have run there are no such rows
    sgd, *others = (row.label for row in tuned.values())
    adam = tuned["Adam"].label
    return [
        Claim("At its own best lr no optimiser is better than SGD at its own",
              none_above(sgd, *others)),
        Claim("At SGD's (the recipe's) learning rate Adam is worse than at its own",
              below(f"Adam, lr {SCALES[scale].recipe['lr']:g}", adam)),
    ]


def figure(runs, path):
    """kNN on held-out images over the learning rate."""
    drawing, axis = new_figure(1, width=7)
    tried = {label.removesuffix(HELD_OUT): records[-1]["knn"]
             for label, (_, records) in runs.items() if label.endswith(HELD_OUT)}
    for i, name in enumerate(OPTIMIZERS):
        points = [(float(label.rpartition(" ")[2]), knn) for label, knn in tried.items()
                  if label.rpartition(",")[0] == name]
        axis.semilogx(*zip(*points), label=name, **line_style(i))
    axis.set(title="seed 0, held-out training images", xlabel="base learning rate",
             ylabel="kNN accuracy (%)", ylim=(0, 102))
    save_figure(drawing, path)


if __name__ == "__main__":
    main(sys.modules[__name__])
