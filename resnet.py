"""The backbone: residual networks, written out by hand (He et al., arXiv 1512.03385).

The paper pre-trains ResNet-50 on ImageNet (Sec. 3) and the CIFAR variant of ResNet-18 on CIFAR-10
(App. D); its feature is the global average pool ("pool5"), which forward() returns here if
num_classes is 0. Parameter names equal torchvision's, so weights load both ways, strictly.

    resnet18, resnet34, resnet50    widths 64 to 512, four stages
    resnet8, resnet20               widths 16 to 64, three stages: He et al.'s CIFAR nets, for a CPU

stem="imagenet": 7x7 convolution of stride 2, then a max-pool.  stem="cifar": 3x3 of stride 1, no
max-pool, so that a 32 px image does not enter the first block at 8 px ("CIFAR variant", App. D).
"""

from contextlib import nullcontext

import torch
from torch import nn


def conv(c_in, c_out, kernel, stride=1):
    """A k x k convolution that keeps the size at stride 1; without bias, for a BN follows."""
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)


def shortcut(c_in, c_out, stride):
    """The identity (None) where shapes agree, else a 1x1 projection.

    here: resnet8/20 use the projection too, where He et al.'s CIFAR nets pad with zeros (option A).
    """
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: (N, c_in, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1  # output channels over width

    def __init__(self, c_in, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(c_in, width, stride)
        nn.init.zeros_(self.bn2.weight)  # App. A: every residual branch starts at zero

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut: (N, c_in, H, W) -> (N, 4 width, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, c_in, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, width, 1), nn.BatchNorm2d(width)
        # stride on the 3x3, as torchvision ("ResNet v1.5"); He et al. put it on the first 1x1
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(c_in, 4 * width, stride)
        nn.init.zeros_(self.bn3.weight)  # App. A

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """Stem, stages layer1 ... layerS, global average pool: x (N, 3, H, W) -> (N, features).

    With num_classes a linear layer follows, as in torchvision, and the output is (N, num_classes).
    Convolutions and fc keep PyTorch's default initialisation, as App. A asks.
    bf16: compute in bfloat16; weights, BN's statistics, the average pool and fc stay float32
    """

    def __init__(self, block, depths, widths, stem="imagenet", num_classes=0, bf16=False):
        super().__init__()
        self.bf16 = bf16
        cifar = stem == "cifar"
        self.conv1 = conv(3, widths[0], 3) if cifar else conv(3, widths[0], 7, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages, c = len(depths), widths[0]
        for i, (depth, width) in enumerate(zip(depths, widths), start=1):
            blocks = []
            for j in range(depth):
                blocks.append(block(c, width, stride=2 if i > 1 and j == 0 else 1))
                c = width * block.expansion
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.features = c
        self.fc = nn.Linear(c, num_classes) if num_classes else nn.Identity()

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            for i in range(1, self.stages + 1):
                x = getattr(self, f"layer{i}")(x)
            x = x.mean(dim=(2, 3), dtype=self.conv1.weight.dtype)  # the paper's pool5
        return self.fc(x)


WIDE, SMALL = (64, 128, 256, 512), (16, 32, 64)
ARCHS = {  # name: (block, blocks per stage, channels per stage)
    "resnet8": (BasicBlock, (1, 1, 1), SMALL),
    "resnet20": (BasicBlock, (3, 3, 3), SMALL),
    "resnet18": (BasicBlock, (2, 2, 2, 2), WIDE),
    "resnet34": (BasicBlock, (3, 4, 6, 3), WIDE),
    "resnet50": (Bottleneck, (3, 4, 6, 3), WIDE),
}


def resnet(arch, stem="imagenet", num_classes=0, bf16=False):
    """The network called `arch`, freshly initialised from torch's global generator."""
    return ResNet(*ARCHS[arch], stem, num_classes, bf16)
