"""Further measures of a run, taken after training, before and after the projector.

    python -m experiments.measures runs/shapes

For the backbone's features and for z: kNN, std and rank on the test images, as
kNN sees them. For z also centre, alignment and uniformity, on views of training
images; the logs keep these three, and theory_spectrum.py shows what they say
about collapse.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

import options
from lineval import extract_features, knn_accuracy
from simsiam import effective_rank, output_std
from utils import data, runs
from utils.console import plain_errors


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
    It hardly shows a dimensional collapse (arXiv 2403.00642); the rank does.
    """
    return torch.pdist(F.normalize(z, dim=1)).square().mul(-2).exp().mean().log()


def load_run(out):
    """A run's options, its model with the weights of its checkpoint, and its images."""
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
    return args, model, images


@torch.no_grad()
def measure_outputs(args, model, images):
    """The measures of z for two views of about 2048 training images of a run from load_run().

    returns: {"singular values": the 256 largest as shares of their sum, "centre": ..., ...}
    BN is in train mode, so the model's running statistics move.
    """
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


def measure_layers(args, model, images):
    """kNN accuracy (%), std and rank of the backbone's features and of z of a run from load_run().

    returns: {"backbone": (knn, std, rank), "projector": ...}; SystemExit without labels
    Measured on the test images in eval mode (BN uses its running statistics), so std and rank are
    not those of metrics.jsonl.
    """
    if not images.classes:
        raise SystemExit(f"{args.data}: kNN needs labels, and these images have none")
    y, y_test = (labels.to(args.device) for labels in (images.train_labels, images.test_labels))
    encoder = nn.Sequential(model.backbone, model.projector)
    found = {}
    for name, network in (("backbone", model.backbone), ("projector", encoder)):
        bank, query = (extract_features(network, x, args.mean, args.std, args.image_size)
                       for x in (images.labelled, images.test))
        found[name] = (knn_accuracy(bank, y, query, y_test), output_std(query).item(),
                       effective_rank(query).item())
    return found


@plain_errors
def main(argv=None):
    """Print both kinds of measures of some runs."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.measures", description="Measure the backbone's features and z.")
    p.add_argument("runs", nargs="+", metavar="RUN", help="a run folder of train.py")
    for run in p.parse_args(argv).runs:
        loaded = load_run(run)
        layers, z = measure_layers(*loaded), measure_outputs(*loaded)
        print(f"{run}\n{'':12}    kNN    std   rank")
        for name, (knn, std, rank) in layers.items():
            print(f"  {name:10}{knn:7.2f}  {std:5.3f}  {rank:5.1f}")
        print("  z: " + ", ".join(f"{name} {z[name]:.3f}"
                                  for name in ("centre", "alignment", "uniformity")))


if __name__ == "__main__":
    main()
