"""Further measures of the outputs z, taken after training: centre, alignment, uniformity.

measure_outputs() applies them to a finished run; its log keeps the result. theory_spectrum.py
shows what they say about collapse.
"""

import argparse

import torch
import torch.nn.functional as F

import options
from utils import data, runs


def centre(z):
    """m_o, the length of the mean of the rows z / ‖z‖ (Zhang et al., arXiv 2203.16262).

    z: (N, d)   returns: () in [0, 1]; 1 if all rows point the same way, 0 if they cancel out
    The residuals around that mean have the mean square 1 - m_o²; complete collapse takes it to 0.
    """
    return F.normalize(z, dim=1).mean(dim=0).norm()


def alignment(z1, z2):
    """The mean squared distance between two views on the sphere (arXiv 2005.10242, Sec. 4).

    z1, z2: (N, d), projections of the two views   returns: () in [0, 4]; it equals 2 + 2 D(z1, z2)
    """
    return (F.normalize(z1, dim=1) - F.normalize(z2, dim=1)).square().sum(dim=1).mean()


def uniformity(z):
    """The log of the mean of exp(-2 ‖zi - zj‖²) over all pairs of normalised rows (2005.10242).

    z: (N, d)   returns: (), at most 0, which a constant output has; lower is more uniform
    """
    return torch.pdist(F.normalize(z, dim=1)).square().mul(-2).exp().mean().log()


@torch.no_grad()
def measure_outputs(out):
    """The measures of z for two views of about 2048 training images, from a run's checkpoint.

    returns: {"singular values": the 256 largest as shares of their sum, "centre": ..., ...}
    """
    saved = runs.load_checkpoint(out)
    default = vars(options.parse([]))
    own = {"device": default["device"], "init": None}  # not the weights that the run started from
    args = argparse.Namespace(**{**default, **saved["config"], **own})
    model = options.build(args)
    # A study may have put another predictor in the place of h; z does not depend on it.
    encoder = {name: w for name, w in saved["model"].items() if not name.startswith("h.")}
    model.load_state_dict(encoder, strict=False)
    images = data.load(args.data, args.root, args.image_size, args.skip_bad_images,
                       args.stored_size or args.image_size)
    augment = options.augmentation(args)
    torch.manual_seed(0)
    N, n = args.batch_size, len(images.train)  # BN uses a batch's statistics: the run's own N
    x = images.train[torch.randperm(n)[: max(1, min(2048, n) // N) * N]]  # whole batches
    x = x.to(args.device)
    z1, z2 = (torch.cat([model.f(augment(b)) for b in x.split(N)]) for _ in range(2))
    s = torch.linalg.svdvals(z1)
    share = (s / s.sum())[:256].tolist()
    return {"singular values": [float(f"{v:.4g}") for v in share],
            "centre": centre(z1).item(), "alignment": alignment(z1, z2).item(),
            "uniformity": uniformity(z1).item()}
