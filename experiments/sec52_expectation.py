"""Section 5.2, expectation over augmentations: no predictor, but targets averaged over the epochs.

    python -m experiments.sec52_expectation

eta_x <- m eta_x + (1 - m) F(T'(x)), m = 0.8, is kept for every image x, as in a memory bank; F is
normalised, as Sec. 5.1 says for the cosine. With m = 0 this is SimSiam without predictor
(Table 1 (a)), which collapses.

here: symmetrised, so that each visit draws two samples T'(x) and averages what they give; 36 visits
to an image, an epoch each, where the paper has 100.

What it printed (AMD EPYC, shapes; one thread a run, the machine shared):

                                              linear %         kNN %     s  n
    SimSiam                                 99.9 ± 0.1    99.6 ± 0.3   363  3
    no predictor, moving average m = 0.8    99.4 ± 0.3    98.8 ± 0.2   392  3
    no predictor, no average               70.8 ± 15.5   77.0 ± 10.5   420  3
"""

import sys

import torch
import torch.nn.functional as F

from experiments.table import Claim, Row, below, collapsed, main


def expectation(m):
    """Targets that are moving averages with momentum m: a make_step of train.train()."""

    def make_step(run):
        model, state = run.model, run.state

        def averaged(indices, z):
            """m eta + (1 - m) z / ||z||; at the first meeting with an image, z / ||z||."""
            z, eta = F.normalize(z.detach(), dim=1), state["eta"][indices]
            seen = eta.any(dim=1, keepdim=True)
            return torch.where(seen, m * eta + (1 - m) * z, z)

        def loss_of(indices):
            z1, z2 = map(model.f, run.views(indices))
            indices = indices.to(z1.device)
            if "eta" not in state:  # in the state, so that a checkpoint holds it
                state["eta"] = z1.new_zeros(len(run.images.train), z1.shape[1])
            eta1, eta2 = averaged(indices, z1), averaged(indices, z2)
            state["eta"][indices] = (eta1 + eta2) / 2
            return model.D(z1, eta2) / 2 + model.D(z2, eta1) / 2, z1

        return loss_of

    make_step.__name__ = f"expectation-{m}"
    return make_step


ROWS = [
    Row("SimSiam", "", 68.1, times=3),
    Row("no predictor, moving average m = 0.8", "--predictor none", 55.0, expectation(0.8), 3),
    Row("no predictor, no average", "--predictor none", 0.1, times=3),
]
CLAIMS = [
    Claim("The moving average rescues the variant without predictor in part",
          below("no predictor, no average", "no predictor, moving average m = 0.8", "SimSiam")),
    Claim("So it does the outputs: their std lies between those of the other two",
          below("no predictor, no average", "no predictor, moving average m = 0.8", "SimSiam",
                key="std")),
    Claim("Its outputs do not collapse",
          lambda last: not any(map(collapsed, last["no predictor, moving average m = 0.8"])),
          "They keep two or three dimensions of 256, where without the average one is left"),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
