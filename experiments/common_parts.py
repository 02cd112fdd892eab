"""Not in the paper: does train.py learn as much as the same training of common parts?

    python -m experiments.common_parts

The tests compare each of our parts with a well-known one; this compares whole runs. The second row
has torchvision's transforms on PIL images, heads of torch.nn, torch's cosine and its SGD. It shares
the backbone with its initial weights, the learning rate of each step, and kNN and the probe with
the first; the heads' initial weights, the order of the images and the views are others, and its
views have 8 bits.
At the scale cifar there is nothing to run: one process would take hours over PIL images.
"""

import sys

import torch
from torch import nn
from torchvision.transforms.functional import to_pil_image

from experiments.claims import all_above
from experiments.opt_optimizers import Torch
from experiments.peers import pil_view
from experiments.table import Claim, Row, main
from train import param_groups


def common_parts(run):
    """A study: views, heads, loss and optimiser as most code for SimSiam has them; no blur."""
    args, model, images = run.args, run.model, run.images.train
    view = pil_view(args.image_size, args.mean, args.std, args.crop_min)
    cosine = nn.CosineSimilarity(dim=1)

    def two_views(indices):
        originals = [to_pil_image(x) for x in images[indices].cpu()]
        return [torch.stack([view(x) for x in originals]).to(args.device) for _ in range(2)]

    def loss_fn(x1, x2):
        z1, z2 = model.f(x1), model.f(x2)
        p1, p2 = model.h(z1), model.h(z2)
        return -(cosine(p1, z2.detach()) + cosine(p2, z1.detach())).mean() / 2, z1

    run.two_views = two_views
    made = heads(model.backbone.num_features, args.dim, args.pred_dim)
    model.projector, model.h = (head.to(args.device) for head in made)
    run.optimizer = Torch(torch.optim.SGD, param_groups(model), args.weight_decay, momentum=0.9)
    return loss_fn


def heads(c, d, hidden):
    """The projector (N, c) -> (N, d) and the predictor (N, d) -> (N, d) of App. D."""
    projector = nn.Sequential(
        nn.Linear(c, d, bias=False), nn.BatchNorm1d(d), nn.ReLU(),
        nn.Linear(d, d, bias=False), nn.BatchNorm1d(d))
    predictor = nn.Sequential(
        nn.Linear(d, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, d))
    return projector, predictor


OURS, COMMON = "train.py", "common parts"


def ROWS(scale):
    return [Row(OURS), Row(COMMON, study=common_parts)] if scale != "cifar" else []


CLAIMS = [
    Claim("The two differ by less than two points",
          all_above(OURS, COMMON, by=-2) + all_above(COMMON, OURS, by=-2)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
