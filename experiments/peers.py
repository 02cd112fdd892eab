"""SimSiam's training loop as others write it, for speed.py to compare with.

Torchvision's or lightly's transforms on PIL images, a DataLoader with a worker per core, kept from
epoch to epoch, the same network in PyTorch's default memory format, and torch.optim's SGD.
A peer is a tuple of a function that draws two views of a PIL image, a network, and a function
x1, x2 -> loss.
"""

import os

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from experiments.benchmark import DEVICE, MEAN, SIZE, STD, now
from resnet import resnet
from simsiam import SimSiam


def pil_view(size, mean, std, crop_min=0.2):
    """A view of a PIL image by torchvision, as App. A has it but without blur: a function."""
    return transforms.Compose([
        transforms.RandomResizedCrop(size, scale=(crop_min, 1.0)),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ])


PIL_VIEW = pil_view(SIZE, MEAN, STD)


class Pairs(Dataset):
    """Two views of each of a list of PIL images."""

    def __init__(self, images, two_views):
        self.images, self.two_views = images, two_views

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.two_views(self.images[i])


def pil_views(image):
    """Two views of a PIL image, as two tensors (3, SIZE, SIZE)."""
    return PIL_VIEW(image), PIL_VIEW(image)


def torchvision_peer(args):
    """Torchvision's transforms, and our network."""
    model = SimSiam(resnet(args.arch, args.stem, bf16=args.bf16), args.dim, args.proj_layers)
    return pil_views, model, lambda x1, x2: model(x1, x2)[0]


def lightly_peer(args):
    """Lightly's transforms, heads and loss, on our backbone."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import SimSiamPredictionHead
    from lightly.models.modules.heads import ProjectionHead
    from lightly.transforms import SimSiamTransform

    backbone, D = resnet(args.arch, args.stem, bf16=args.bf16), NegativeCosineSimilarity()
    c, d, BN = backbone.num_features, args.dim, torch.nn.BatchNorm1d
    f = ProjectionHead([(c, d, BN(d), torch.nn.ReLU()), (d, d, BN(d), None)])  # two layers, as ours
    h = SimSiamPredictionHead(args.dim, args.pred_dim, args.dim)

    def loss_fn(x1, x2):
        z1, z2 = f(backbone(x1)), f(backbone(x2))
        return (D(h(z1), z2.detach()) + D(h(z2), z1.detach())) / 2

    return SimSiamTransform(SIZE, gaussian_blur=0.0), torch.nn.ModuleList([backbone, f, h]), loss_fn


def peer_loop(args, images, peer):
    """A function that trains a peer for an epoch on PIL images and returns images/s."""
    two_views, model, loss_fn = peer
    loader = DataLoader(Pairs(images, two_views), args.batch_size, shuffle=True, drop_last=True,
                        num_workers=os.cpu_count(), persistent_workers=True,
                        pin_memory=DEVICE == "cuda")
    model.to(DEVICE)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def epoch():
        start = None
        for x1, x2 in loader:
            # The clock starts with the first batch, when each worker may have loaded two.
            start = start or now()
            loss = loss_fn(*(x.to(DEVICE, non_blocking=True) for x in (x1, x2)))
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        return len(loader) * args.batch_size / (now() - start)

    return epoch
