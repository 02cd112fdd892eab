"""What the views cost, against a training step and against torchvision's transforms on PIL images,
and what a step of each method costs.

    python -m experiments.speed        two minutes

Prints medians of interleaved repetitions, for resnet8 at 32 px and the views of App. D (of the
methods: at 24 px, the recipe for shapes), and ratios; only these carry over to another machine.
"""

import statistics
import time

import torch
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

import options
from augment import Augment
from optim import SGD
from resnet import resnet
from simsiam import SimSiam

SIZE, MEAN, STD = 32, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
PIL_VIEW = transforms.Compose(
    [
        transforms.RandomResizedCrop(SIZE, scale=(0.2, 1.0)),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)


def medians(*functions, repetitions=7):
    """Median seconds of each function, run in turns: a noisy neighbour disturbs all alike."""
    seconds = [[] for _ in functions]
    for _ in range(repetitions + 1):  # the first time is for warming up
        for function, times in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return [statistics.median(times[1:]) for times in seconds]


def smooth_images(n):
    """Random images without pixel noise, for photographs have little: (n, 3, SIZE, SIZE) uint8."""
    x = torch.nn.functional.interpolate(torch.rand(n, 3, 8, 8), SIZE, mode="bicubic")
    return (255 * x).clamp(0, 255).to(torch.uint8)


def step_costs(batch_size, dim):
    """Seconds of the two views of a batch, and of the network's step on them."""
    x, augment = smooth_images(batch_size), Augment(SIZE, MEAN, STD, blur_p=0.0)
    model = SimSiam(resnet("resnet8", "cifar"), dim, proj_layers=2)
    model.to(memory_format=torch.channels_last)
    sgd = SGD([model.parameters()], weight_decay=5e-4)
    x1, x2 = augment(x), augment(x)

    def views():
        return augment(x), augment(x)

    def step():
        L, _ = model(x1, x2)
        sgd.zero_grad()
        L.backward()
        sgd.step(0.06)

    return medians(views, step)


def step_of(method):
    """A training step of a method, the recipe for shapes, on ready-made views: a function."""
    args = options.parse(["--method", method])
    options.choose(args, size=24)
    args.device = "cpu"
    model = options.build(args)
    sgd = SGD([[w for w in model.parameters() if w.requires_grad]], weight_decay=5e-4)
    views = [torch.randn(args.batch_size, 3, 24, 24).contiguous(memory_format=torch.channels_last)
             for _ in range(2)]

    def step():
        L, _ = model(*views)
        sgd.zero_grad()
        L.backward()
        sgd.step(0.01)

    return step


def main():
    torch.set_flush_denormal(True)
    for batch_size, dim in ((512, 2048), (64, 256)):
        views, network = step_costs(batch_size, dim)
        print(f"{torch.get_num_threads()} threads, batch {batch_size}, d = {dim}: two views"
              f" {views:.3f} s, the network's step {network:.3f} s; the views are"
              f" {views / (views + network):.1%} of the whole")
    torch.set_num_threads(1)
    x, augment = smooth_images(512), Augment(SIZE, MEAN, STD, blur_p=0.0)
    pil = [to_pil_image(image) for image in x]
    ours, theirs = medians(lambda: augment(x), lambda: [PIL_VIEW(image) for image in pil])
    print(f"1 thread: a view of 512 images {ours:.3f} s, torchvision on PIL images {theirs:.3f} s;"
          f" {theirs / ours:.1f} times as fast")
    seconds = dict(zip(options.METHODS, medians(*map(step_of, options.METHODS))))
    print("a step, in steps of SimSiam: " + ", ".join(
        f"{method} {s / seconds['simsiam']:.2f}" for method, s in seconds.items()))


if __name__ == "__main__":
    main()
