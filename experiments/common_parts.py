"""Not in the paper: does train.py learn as much as the same training of common parts?

    python -m experiments.common_parts

The tests compare each of our parts with a well-known one; this compares whole runs. The second row
has torchvision's transforms on PIL images, heads of torch.nn, torch's cosine and its SGD. It shares
the backbone with its initial weights, the learning rate of each step, and kNN and the probe with
the first; the heads' initial weights, the order of the images and the views are others, and its
views have 8 bits. The third row has only the views.
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


def common_views(run):
    """A study: torchvision's views of PIL images, without blur; all else is train.py's."""
    args, images = run.args, run.images.train
    view = pil_view(args.image_size, args.mean, args.std, args.crop_min)

    def two_views(indices):
        originals = [to_pil_image(x) for x in images[indices].cpu()]
        return [torch.stack([view(x) for x in originals]).to(args.device) for _ in range(2)]

    run.two_views = two_views
    return run.model


def common_parts(run):
    """A study: views, heads, loss and optimiser as most code for SimSiam has them."""
    args, model, cosine = run.args, common_views(run), nn.CosineSimilarity(dim=1)

    def loss_fn(x1, x2):
        z1, z2 = model.f(x1), model.f(x2)
        p1, p2 = model.h(z1), model.h(z2)
        return -(cosine(p1, z2.detach()) + cosine(p2, z1.detach())).mean() / 2, z1

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
NOTE = ("No claim is about the row of common views. It was added on 30 November 2026, when the"
        " others were known, because on photographs kNN with common parts is higher.")


def ROWS(scale):
    return [] if scale == "cifar" else [
        Row(OURS), Row(COMMON, study=common_parts), Row("common views", study=common_views)]


CLAIMS = [
    Claim("The two differ by less than two points",
          all_above(OURS, COMMON, by=-2) + all_above(COMMON, OURS, by=-2)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
