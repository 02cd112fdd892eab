"""Section 5.2, expectation over augmentations: no predictor, but targets averaged over the epochs.

    python -m experiments.sec52_expectation

    η_x ← E F(T(x)), over all augmentations T: the best target for an image x           (Eq. 9)

η_x ← m η_x + (1 - m) F(T'(x)), m = 0.8, estimates it from one view per visit. It is kept for every
image x, as in a memory bank. F is normalised, as Sec. 5.1 asks for with the cosine. With m = 0 this
is Eq. 10, SimSiam without predictor (Table 1 (a)), which collapses.

here: symmetrised: each visit draws two samples T'(x) and stores the mean of the two averages.
here: an image is visited once per epoch, far fewer times than the paper's 100. At the first visit
there is no average yet and η is z / ‖z‖, so the first epoch is Table 1 (a)'s: a fifth of a run on
photographs, by whose end the outputs have nearly collapsed. A longer run is shown as well.
"""

import sys

import torch
import torch.nn.functional as F

from experiments.claims import below, every_run, has_collapsed, is_healthy
from experiments.table import Claim, Row, main


def moving_average(eta, z, m):
    """The new targets: m η + (1 - m) z / ‖z‖; on the first visit to an image, z / ‖z‖.

    It estimates the mean of z / ‖z‖ over augmentations, Eq. 9, from one more view at each visit.
    eta: (N, d), one row per image, all zeros where it has not been visited yet
    z: (N, d) projections of the same images   m: in [0, 1)
    returns: (N, d), without gradient; it is not normalised again, and eta and z stay as they are
    """
    z = F.normalize(z.detach(), dim=1)
    seen = eta.any(dim=1, keepdim=True)  # (N, 1)
    # An average with the zeros would point the same way, but count less at the next visit.
    return torch.where(seen, m * eta + (1 - m) * z, z)


def expectation(m):
    """A study: targets that are moving averages with momentum m (Eq. 9; m = 0: Eq. 10)."""
    def study(run):
        f, D, state = run.model.f, run.model.D, run.state

        def loss_fn(x1, x2):
            z1, z2 = f(x1), f(x2)
            indices = run.indices.to(z1.device)
            if "eta" not in state.extra:  # the memory bank (n, d); checkpoints hold it
                state.extra["eta"] = z1.new_zeros(len(run.images.train), z1.shape[1])
            eta = state.extra["eta"][indices]  # (N, d)
            eta1, eta2 = (moving_average(eta, z, m) for z in (z1, z2))
            state.extra["eta"][indices] = (eta1 + eta2) / 2
            # No h: z itself is compared with the target that the other view has moved.
            return D(z1, eta2) / 2 + D(z2, eta1) / 2, z1

        return loss_fn

    study.__name__ = f"expectation-{m}"
    return study


AVERAGED = "no predictor, moving average m = 0.8"
LONGER = f"{AVERAGED}, 2 x the epochs"
NONE = "no predictor, no average"
ROWS = [
    Row("SimSiam", "", 68.1),
    Row(AVERAGED, "--predictor none", 55.0, expectation(0.8)),
    Row(NONE, "--predictor none", 0.1),
    Row(LONGER, "--predictor none", study=expectation(0.8), times=2),
]
CLAIMS = [
    Claim("The moving average partly rescues SimSiam without predictor",
          below(NONE, AVERAGED, "SimSiam")),
    Claim("With the moving average the outputs do not collapse", every_run(AVERAGED, is_healthy)),
    Claim("Without predictor and average they collapse", every_run(NONE, has_collapsed)),
    Claim("After twice the epochs with the moving average they have not collapsed either",
          every_run(LONGER, is_healthy)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
