"""Beyond the paper: DirectPred, a linear predictor in closed form, and the toy model of collapse.

    python -m experiments.theory_directpred

Tian, Chen and Ganguli (arXiv 2102.06810) find that a linear predictor's eigenvectors align with
those of F = E[z z^T] (not centred), and set them directly, without any gradient (Eq. 18, 19):
F = U diag(s) U^T,   p_j = sqrt(s_j) + eps max_j s_j,   h = U diag(p) U^T.
Their code, followed here, divides s by its maximum first; F is a moving average (rho = 0.3).

The figure shows their dynamics of one eigenmode, p of the predictor and s of F, tau = 1 as without
momentum encoder:   p' = alpha s (1 - (1 + v) p) - eta p,   s' = 2 p s (1 - (1 + v) p) - 2 eta s,
v the variance of the augmentations, eta the weight decay. For eta > 1 / (4 (1 + v)) every start
collapses to s = 0.

What it printed (AMD EPYC, shapes; one thread a run, the machine shared):

                               linear %         kNN %     s  n
    learned MLP predictor    99.7 ± 0.4    99.3 ± 0.5   117  3
    DirectPred               99.6 ± 0.5    98.3 ± 1.0    98  3
    no predictor             97.2 ± 1.2    87.2 ± 3.0    92  3
"""

import sys

import torch
from torch import nn

from experiments.table import Claim, Row, below, collapsed, main
from runs import line, plot, write_figure

ALPHA, V = 1.0, 0.25
THRESHOLD = 1 / (4 * (1 + V))  # of eta
STARTS = [(p, s) for p in (0.05, 0.4, 0.8) for s in (0.1, 0.5, 1.0)]


def directpred(run, rho=0.3, eps=0.1):
    """The predictor of Eq. 18 and 19, set anew at every step: a make_step of train.train()."""
    model, state = run.model, run.state
    d = model.h[-1].out_features
    model.h = nn.Linear(d, d, bias=False, device=run.args.device).requires_grad_(False)

    @torch.no_grad()
    def set_predictor(z):
        now = z.T @ z / len(z)
        state["F"] = rho * state["F"] + (1 - rho) * now if "F" in state else now
        s, U = torch.linalg.eigh(state["F"])
        s = (s / s[-1]).clamp(min=0)  # eigh sorts them: the last is the largest
        model.h.weight.copy_(U @ torch.diag(s.sqrt() + eps) @ U.T)

    def loss_of(indices):
        z1, z2 = map(model.f, run.views(indices))
        set_predictor(torch.cat([z1, z2]))
        return model.D(model.h(z1), z2) / 2 + model.D(model.h(z2), z1) / 2, z1

    return loss_of


def trajectory(p, s, eta, steps=4000, dt=0.01):
    """The toy dynamics from (p, s) on, by the method of Heun: lists of p and of s."""
    slope = lambda p, s: (ALPHA * s * (1 - (1 + V) * p) - eta * p,
                          2 * p * s * (1 - (1 + V) * p) - 2 * eta * s)
    path = [(p, s)]
    for _ in range(steps):
        dp, ds = slope(p, s)
        dp2, ds2 = slope(p + dt * dp, s + dt * ds)
        p, s = p + dt * (dp + dp2) / 2, s + dt * (ds + ds2) / 2
        path.append((p, s))
    return tuple(zip(*path))


ROWS = [
    Row("learned MLP predictor"),
    Row("DirectPred", "", "", directpred),
    Row("no predictor", "--predictor none"),
]
CLAIMS = [
    Claim("DirectPred learns without training a predictor: better than none",
          below("no predictor", "DirectPred")),
    Claim("DirectPred does not collapse",
          lambda last: not any(map(collapsed, last["DirectPred"]))),
    Claim("Toy model: above the threshold every start of the figure collapses, below it not all",
          lambda _: max(trajectory(*start, 1.2 * THRESHOLD)[1][-1] for start in STARTS) < 0.01
          and max(trajectory(*start, 0.5 * THRESHOLD)[1][-1] for start in STARTS) > 0.1),
]


def figure(logs, path):
    """The phase planes of the toy model below and above the threshold."""
    drawing, axes = plot(2, width=10)
    for axis, share in zip(axes, (0.5, 1.2)):
        for i, start in enumerate(STARTS):
            style = {**line(i // 3, 3), "marker": "", "label": f"p = {start[0]}" * (i % 3 == 0)}
            axis.plot(*trajectory(*start, share * THRESHOLD), **style)
            axis.plot(*start, "k.", markersize=4)
        axis.set(title=rf"$\eta$ = {share} of the threshold", xlabel="p, the predictor",
                 ylabel="s, the outputs", xlim=(0, 1), ylim=(0, 1.6))
    write_figure(drawing, path)


if __name__ == "__main__":
    main(sys.modules[__name__])
