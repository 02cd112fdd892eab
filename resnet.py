"""The backbone, the first half of the encoder f: residual networks by hand (arXiv 1512.03385).

The paper pre-trains ResNet-50 on ImageNet (Sec. 3) and "the CIFAR variant of ResNet-18" on CIFAR-10
(App. D). Parameter names match torchvision's; with num_classes, weights load both ways, strictly.

    resnet18, resnet34, resnet50    widths 64 to 512, four stages
    resnet8, resnet20               widths 16 to 64, three stages, like He et al.'s for CIFAR-10

What one image becomes:      resnet50, "imagenet" stem    resnet18, "cifar" stem
    x                           3 × 224 × 224                 3 × 32 × 32
    stem                       64 ×  56 ×  56                64 × 32 × 32
    layer1 (conv2_x)          256 ×  56 ×  56                64 × 32 × 32
    layer2 (conv3_x)          512 ×  28 ×  28               128 × 16 × 16
    layer3 (conv4_x)         1024 ×  14 ×  14               256 ×  8 ×  8
    layer4 (conv5_x)         2048 ×   7 ×   7               512 ×  4 ×  4
    pool5                    2048                           512
"""

from contextlib import nullcontext
from functools import partial

import torch
from torch import nn


def conv(c_in, c_out, kernel, stride=1):
    """A k × k convolution without bias: it keeps height and width at stride 1, halves them at 2."""
    # BN follows every convolution and subtracts the mean over the batch, and with it any bias.
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)


def shortcut(c_in, c_out, stride):
    """A block's shortcut: None for the identity, a 1 × 1 projection where the shape changes.

    The projection is a convolution with the block's stride, then BN: an nn.Sequential that maps
    (N, c_in, H, W) to (N, c_out, H/stride, W/stride).
    """
    if stride == 1 and c_in == c_out:
        return None
    # here: resnet8 and resnet20 project too; He et al.'s CIFAR nets pad with zeros (option A).
    return nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut: (N, c_in, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1  # output channels = expansion · width

    def __init__(self, c_in, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(c_in, width, stride)
        # App. A: γ of the last BN starts at 0, so the branch adds nothing, and a deep network
        # starts as its shortcuts alone: signal and gradient neither grow nor fade on the way. γ
        # itself has a gradient, so the branch joins in after the first step.
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        """ReLU(F(x) + shortcut(x)), where F is conv1, BN, ReLU, conv2, BN; x stays as it is."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))  # no ReLU yet: the branch may also subtract
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3, 1 × 1 and a shortcut: (N, c_in, H, W) -> (N, 4 width, H/stride, W/stride)."""

    # A 3 × 3 costs as much as nine 1 × 1, so it works on a quarter of the channels: the first 1 × 1
    # reduces to `width`, the last expands to 4 width. Hence ResNet-50's 4 · 512 features.
    expansion = 4

    def __init__(self, c_in, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, width, 1), nn.BatchNorm2d(width)
        # The stride is on the 3 × 3, as in torchvision. He et al. put it on the first 1 × 1, which
        # then never sees three of four pixels.
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(c_in, 4 * width, stride)
        nn.init.zeros_(self.bn3.weight)  # App. A, as in BasicBlock

    def forward(self, x):
        """As in BasicBlock, with three convolutions in F, each with its BN."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """Stem, stages layer1 ... layerS, global average pool: (N, 3, H, W) -> (N, num_features).

    block: BasicBlock or Bottleneck   depths, widths: of the stages   stem: "imagenet" or "cifar"
    num_classes: if not 0, a linear layer follows, and the output is (N, num_classes)
    bf16: compute in bfloat16; weights, BN's statistics, the average pool and fc stay float32.
    Initialised as torchvision's with zero_init_residual: the same seed gives the same weights, if
    num_classes is the same.
    """

    def __init__(self, block, depths, widths, stem="imagenet", num_classes=0, bf16=False):
        super().__init__()
        self.bf16 = bf16
        # The ImageNet stem shrinks an image by 4 before the first block, and layer2 to layer4 by 8
        # more. That suits 224 px, but leaves only 8 × 8 of 32 px to layer1, one pixel to layer4.
        # here: the CIFAR stem keeps all pixels; App. D says only "variant", this is the usual one.
        cifar = stem == "cifar"
        self.conv1 = conv(3, widths[0], 3) if cifar else conv(3, widths[0], 7, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages, c = len(depths), widths[0]
        for i, (depth, width) in enumerate(zip(depths, widths), start=1):
            blocks = []
            for j in range(depth):
                # Each stage but the first halves height and width, in its first block.
                blocks.append(block(c, width, stride=2 if i > 1 and j == 0 else 1))
                c = width * block.expansion
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.num_features = c
        self.fc = nn.Linear(c, num_classes) if num_classes else nn.Identity()
        # here: we take App. A's "default PyTorch initializers" to be those of torchvision's ResNet,
        # as in the official code: std √(2 / fan_out), fan_out = k² c_out, so that the gradient
        # keeps its scale through the layers. nn.Conv2d's own default is smaller in most layers.
        # Smaller weights in front of BN have larger gradients: the first steps would turn them
        # several times as far.
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (N, widths[0], ...)
            for i in range(1, self.stages + 1):
                x = getattr(self, f"layer{i}")(x)  # (N, expansion · widths[i - 1], ...)
            # "pool5": the mean over all positions, named after conv5_x, the last stage. These
            # features are what linear evaluation and kNN use; the projector is thrown away.
            x = x.mean(dim=(2, 3), dtype=self.conv1.weight.dtype)  # (N, num_features)
        return self.fc(x)


WIDE, SMALL = (64, 128, 256, 512), (16, 32, 64)
# Any other class works, too, if it takes stem, num_classes and bf16 and has .num_features.
ARCHS = {  # name: the network, but for its stem; blocks per stage, width of each stage
    "resnet8": partial(ResNet, BasicBlock, (1, 1, 1), SMALL),
    "resnet20": partial(ResNet, BasicBlock, (3, 3, 3), SMALL),
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2), WIDE),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3), WIDE),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3), WIDE),
}


def resnet(arch, stem="imagenet", num_classes=0, bf16=False):
    """The network called `arch`, a key of ARCHS, initialised from torch's global generator."""
    return ARCHS[arch](stem=stem, num_classes=num_classes, bf16=bf16)
