"""Beyond the paper: DirectPred, a linear predictor in closed form, and a toy model of collapse.

    python -m experiments.theory_directpred

Tian, Chen and Ganguli (arXiv 2102.06810) find that a linear predictor's eigenvectors align with
those of F = E[z zᵀ] (not centred), and set them directly, without any gradient (Eq. 18, 19):
F = U diag(s) Uᵀ,   p_j = √s_j + ε max_j s_j,   h = U diag(p) Uᵀ.
F is a moving average (ρ = 0.3).
here: as in their code, s is divided by its maximum first. Values below 0 become 0.

The figure shows their dynamics of one eigenmode, p of the predictor and s of F, with τ = 1, that is
without momentum encoder:   p' = α s (1 - (1 + v) p) - η p,   s' = 2 p s (1 - (1 + v) p) - 2 η s,
where α is the predictor's lr relative to the encoder's, v the variance of the augmentations and η
the weight decay. If η > 1 / (4 (1 + v)), every start collapses to s = 0.
"""

import sys

import torch
from torch import nn

from experiments.claims import all_above, below, every_run, is_healthy
from experiments.table import Claim, Row, main
from utils.plot import line_style, new_figure, save_figure

ALPHA, V = 1.0, 0.25
THRESHOLD = 1 / (4 * (1 + V))  # of η
STARTS = [(p, s) for p in (0.05, 0.4, 0.8) for s in (0.1, 0.5, 1.0)]


def directpred(run, rho=0.3, eps=0.1):
    """A study: the predictor of Eq. 18 and 19, set anew at every step."""
    model, state = run.model, run.state
    d = model.h[-1].out_features
    model.h = nn.Linear(d, d, bias=False).requires_grad_(False).to(run.args.device)

    @torch.no_grad()
    def set_predictor(z):
        F = z.T @ z / len(z)  # (d, d), of both views; not centred
        if "F" in state.extra:
            F = rho * state.extra["F"] + (1 - rho) * F
        state.extra["F"] = F
        s, U = torch.linalg.eigh(F.nan_to_num(0, 0, 0))  # a diverged z must reach the loss
        s = (s / s[-1]).clamp(min=0)  # eigh sorts them: the last is the largest
        # Without ε a direction that z hardly uses would get hardly any gradient.
        model.h.weight.copy_(U @ torch.diag(s.sqrt() + eps) @ U.T)

    def loss_fn(x1, x2):
        z1, z2 = model.f(x1), model.f(x2)
        set_predictor(torch.cat([z1, z2]))  # before h is used: h always fits the current z
        return model.D(model.h(z1), z2) / 2 + model.D(model.h(z2), z1) / 2, z1

    return loss_fn


def trajectory(p, s, eta, steps=4000, dt=0.01):
    """The toy dynamics starting at (p, s), by Heun's method: all p, and all s."""
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
    Row("DirectPred", study=directpred),
    Row("no predictor", "--predictor none"),
]
CLAIMS = [
    Claim("DirectPred, without training a predictor, is better than no predictor",
          below("no predictor", "DirectPred")),
    Claim("DirectPred is at most two points below a learned predictor"
          " (Tian et al.: 0.1, with BYOL)",
          all_above("learned MLP predictor", "DirectPred", by=-2)),
    Claim("DirectPred does not collapse", every_run("DirectPred", is_healthy)),
    Claim("Toy model (no run): above the threshold every start in the figure collapses, below it"
          " not all do",
          lambda _: max(trajectory(*start, 1.2 * THRESHOLD)[1][-1] for start in STARTS) < 0.01
          and max(trajectory(*start, 0.5 * THRESHOLD)[1][-1] for start in STARTS) > 0.1),
]


def figure(runs, path):
    """The phase planes of the toy model below and above the threshold."""
    drawing, axes = new_figure(2, width=9, height=3.5)
    for axis, share in zip(axes, (0.5, 1.2)):
        for i, start in enumerate(STARTS):
            label = f"starts at p = {start[0]}" if i % 3 == 0 else None
            ps, ss = trajectory(*start, share * THRESHOLD)
            axis.plot(ps, ss, **{**line_style(i // 3), "marker": "", "label": label})
            axis.plot(*start, "k.", label=None if i else "start")
            axis.plot(ps[-1], ss[-1], "kx", label=None if i else "end")
        axis.set(title=rf"$\eta$ = {share} of the threshold", xlabel="p, the predictor",
                 ylabel="s, the outputs", xlim=(0, 1), ylim=(0, 1.6))
    drawing.suptitle("the toy model; no network was trained for this")
    save_figure(drawing, path, "lower")


if __name__ == "__main__":
    main(sys.modules[__name__])
