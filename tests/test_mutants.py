"""The tests of the tests: every plausible mistake below makes at least one of them fail.

    pytest tests/test_mutants.py -m slow          about three hours of a core

Each mutant is one edit of one script in a copy of the repository, and the copy must fail the tests
of that script. Many are bugs that were found in public implementations of SimSiam.
"""

import pathlib
import shutil
import subprocess
import sys

import pytest

HOME = pathlib.Path(__file__).parent.parent

MUTANTS = {  # script: {what is wrong: (the code as it is, and as it is wrong)}
    "simsiam.py": {
        "a fixed predictor is in eval mode": (
            "self.h.requires_grad_(False)  #", "self.h.requires_grad_(False).eval()  #"),
        "a run without predictor draws other random numbers": (
            "        self.h = prediction_mlp(dim, pred_dim or dim // 4, bn)\n"
            '        if predictor == "none":',
            '        if predictor != "none":\n'
            "            self.h = prediction_mlp(dim, pred_dim or dim // 4, bn)\n"
            "        else:"),
        "hidden BNs have no affine either": (
            "layers += linear_bn_relu(width, dim, hidden_bn, relu=True)",
            "layers += linear_bn_relu(width, dim, hidden_bn, relu=True, affine=bn != 'no-affine')"),
        "p is not normalised": ("p, z = F.normalize(p, dim=1), F", "p, z = p, F"),
        "z is not normalised": (
            "F.normalize(p, dim=1), F.normalize(z, dim=1)",
            "F.normalize(p, dim=1), z"),
        "normalised over the batch": (
            "p, z = F.normalize(p, dim=1)",
            "p, z = F.normalize(p, dim=0)"),
        "the similarity is maximised the wrong way": ("return -(p * z)", "return (p * z)"),
        "the cross-entropy is averaged over the channels": (
            "F.log_softmax(p, dim=1)).sum(dim=1)",
            "F.log_softmax(p, dim=1)).mean(dim=1)"),
        "the cross-entropy has p and z exchanged": (
            "F.softmax(z, dim=1) * F.log_softmax(p, dim=1)",
            "F.softmax(p, dim=1) * F.log_softmax(z, dim=1)"),
        "no stop-gradient": ("    if stopgrad:\n", "    if False:\n"),
        "always stop-gradient": ("    if stopgrad:\n", "    if True:\n"),
        "the prediction is detached, not the target": ("z = z.detach()", "p = p.detach()"),
        "z is detached in front of the predictor": (
            "p1, p2 = self.h(z1)",
            "p1, p2 = self.h(z1.detach())"),
        "both views in one pass": (
            "z1, z2 = self.f(x1), self.f(x2)",
            "z1, z2 = self.f(torch.cat([x1, x2])).chunk(2)"),
        "the target is a frozen copy of the initial network": (
            "z1, z2 = self.f(x1), self.f(x2)",
            "t = self.__dict__.setdefault('t', "
            "__import__('copy').deepcopy(self)); z1, z2 = self.f(x1), t.f(x2)"),
        "each view predicts itself": (
            "self.D(p1, z2) / 2 + self.D(p2, z1) / 2",
            "self.D(p1, z1) / 2 + self.D(p2, z2) / 2"),
        "one term of the loss twice": (
            "self.D(p1, z2) / 2 + self.D(p2, z1) / 2",
            "self.D(p1, z2) / 2 + self.D(p1, z2) / 2"),
        "the two terms are added": (
            "self.D(p1, z2) / 2 + self.D(p2, z1) / 2",
            "self.D(p1, z2) + self.D(p2, z1)"),
        "the symmetric loss is always used": ('if self.symmetry == "asymmetric":', "if False:"),
        "no BN on the projector's output, as in BYOL": (
            '"default": (True, True, True, False)',
            '"default": (True, False, True, False)'),
        "BN on the predictor's output": (
            '"default": (True, True, True, False)',
            '"default": (True, True, True, True)'),
        "a ReLU on the projector's output": (
            "output_bn, relu=False, affine",
            "output_bn, relu=True, affine"),
        "the output BN never has an affine": ('affine=bn != "no-affine"', "affine=False"),
        "the output BN always has an affine": ('affine=bn != "no-affine"', "affine=True"),
        "a bias in front of BN": ("bias=not bn", "bias=True"),
        "ReLU in front of BN": (
            "    if bn:\n"
            "        layers.append(nn.BatchNorm1d(c_out, affine=affine))\n"
            "    if relu:\n"
            "        layers.append(nn.ReLU(inplace=True))\n",
            "    if relu:\n"
            "        layers.append(nn.ReLU(inplace=True))\n"
            "    if bn:\n"
            "        layers.append(nn.BatchNorm1d(c_out, affine=affine))\n"),
        "the predictor's hidden layer has no BN": (
            "_, _, hidden_bn, output_bn = BN[bn]",
            "_, _, _, output_bn = BN[bn]; hidden_bn = False"),
        "one projector layer too few": ("[dim] * (depth - 2)", "[dim] * (depth - 3)"),
        "no bottleneck in the predictor": ("pred_dim or dim // 4", "dim"),
        "a fixed predictor is trained": ("self.h.requires_grad_(False)", "pass"),
        "no predictor is one with weights": ("self.h = nn.Identity()", "pass"),
        "std without the root of d": (".mean() * z.shape[1] ** 0.5", ".mean()"),
        "std over the channels": ("std(dim=0, correction=0)", "std(dim=1, correction=0)"),
        "the rank of squared singular values": ("svdvals(z)", "svdvals(z) ** 2"),
        "the rank of centred outputs": ("svdvals(z)", "svdvals(z - z.mean(dim=0))"),
        "the asymmetric loss is halved": (
            "return self.D(self.h(z1), z2), z1",
            "return self.D(self.h(z1), z2) / 2, z1"),
        "D ignores its similarity": (
            "return similarity(p, z).mean()",
            "return negative_cosine(p, z).mean()"),
        "z2 is returned to be measured": ("self.D(p2, z1) / 2, z1", "self.D(p2, z1) / 2, z2"),
        "std of z, not of z / ‖z‖": ("    z = F.normalize(z, dim=1)\n", ""),
        "an untrained network counts as collapsed": (
            "COLLAPSED_STD, COLLAPSED_RANK = 0.1, 2.0",
            "COLLAPSED_STD, COLLAPSED_RANK = 0.3, 4.0"),
        "only the std tells a collapse": (" or rank < COLLAPSED_RANK", ""),
        "the demo's two gradients under each other's name": (
            'names = ("of D(p1, z2) w.r.t. z1, through p1", "of D(p1, z2) w.r.t. z2, the target"',
            'names = ("of D(p1, z2) w.r.t. z2, the target", "of D(p1, z2) w.r.t. z1, through p1"'),
    },
    "resnet.py": {
        "bfloat16 on the CPU only": ("torch.autocast(x.device.type,", 'torch.autocast("cpu",'),
        "the classifier computes in bfloat16": (
            "        return self.fc(x)", "            return self.fc(x)"),
        "basic blocks do not start at zero": ("nn.init.zeros_(self.bn2.weight)", "pass"),
        "bottlenecks do not start at zero": ("nn.init.zeros_(self.bn3.weight)", "pass"),
        "the stride on the first 1x1": (
            "conv(c_in, width, 1), nn.BatchNorm2d(width)",
            "conv(c_in, width, 1, stride), nn.BatchNorm2d(width); stride = 1"),
        "the CIFAR stem has a max-pool": (
            "nn.Identity() if cifar else nn.MaxPool2d",
            "nn.MaxPool2d"),
        "the CIFAR stem strides": (
            "conv(3, widths[0], 3) if cifar",
            "conv(3, widths[0], 3, 2) if cifar"),
        "a padding of 2 in the CIFAR stem": (
            "conv(3, widths[0], 3) if cifar",
            "nn.Conv2d(3, widths[0], 3, padding=2, bias=False) if cifar"),
        "bfloat16 is ignored": ("if self.bf16 else", "if False else"),
        "features stay in bfloat16": (", dtype=self.conv1.weight.dtype)", ")"),
        "one image loses its batch dimension": ("return self.fc(x)", "return self.fc(x.squeeze())"),
        "no ReLU after the addition": (
            "        out += x if self.downsample is None else self.downsample(x)\n"
            "        return self.relu(out)\n"
            "\n"
            "\n"
            "class Bottleneck",
            "        return out + (x if self.downsample is None else self.downsample(x))\n"
            "\n"
            "\n"
            "class Bottleneck"),
    },
    "augment.py": {
        "a large photograph is evaluated whole": ("max(size, round(C * 7 / 8))", "C"),
        "the blur's kernel is always 3 pixels": (
            "gaussian_blur(x, s, self.kernel_size)", "gaussian_blur(x, s, 3)"),
        "both views of an image are mirrored or neither": (
            "flip = chance(self.flip_p)",
            "flip = chance(self.flip_p)[: (n + 1) // 2].repeat(2)[:n]"),
        "views are not normalised": (
            "out.copy_(normalize(self.view(*piece), self.mean, self.std))",
            "out.copy_(self.view(*piece))"),
        "one coin for the whole batch": (
            "torch.rand(n) < p",
            "(torch.rand(1) < p).expand(n).clone()"),
        "one box for the whole batch": (
            "boxes = random_boxes(n, size, self.crop_scale)",
            "boxes = [v.expand(n, 2) for v in random_boxes(1, size, self.crop_scale)]"),
        "one order of the colours for all": (
            "torch.rand(n, 4).argsort(dim=1)",
            "torch.arange(4).repeat(n, 1)"),
        "the jitter's probability is turned round": (
            "~chance(self.jitter_p)",
            "chance(self.jitter_p)"),
        "grayscale half of the time": ("gray_p=0.2", "gray_p=0.5"),
        "hue as strong as the others": (
            "jitter=(0.4, 0.4, 0.4, 0.1)",
            "jitter=(0.4, 0.4, 0.4, 0.4)"),
        "crops from 8 % on, as SimCLR": ("crop_min=0.2", "crop_min=0.08"),
        "never crops": ("(crop_min, 1.0)", "(1.0, 1.0)"),
        "no antialiasing": ("scale.clamp(min=1)", "1"),
        "half a pixel off": ("[:, None] + 0.5) * scale", "[:, None]) * scale"),
        "the crop sees beyond its box": ("weight.mul_(inside.to(weight.dtype))", "pass"),
        "height and width exchanged": (
            "resize_matrix(start, box_size, mirrored, x",
            "resize_matrix(start, box_size.flip(1), mirrored, x"),
        "aspect ratios uniform": ("uniform_(*map(math.log, RATIO)).exp()", "uniform_(*RATIO)"),
        "the side uniform, not the area": (
            "size**2 * torch.empty(n, 10).uniform_(*scale)",
            "size**2 * torch.empty(n, 10).uniform_(scale[0] ** 0.5, 1).square()"),
        "contrast from the whole batch's mean": (
            "y.mean(dim=(2, 3), keepdim=True)",
            "y.mean(dim=(0, 2, 3), keepdim=True)"),
        "blends are not clipped": (
            "x.lerp_(other, 1 - factor).clamp_(0, 1)",
            "x.lerp_(other, 1 - factor)"),
        "contrast and saturation exchanged": (
            "order == CONTRAST, order == SATURATION",
            "order == SATURATION, order == CONTRAST"),
        "images without jitter are darkened": (
            "(order != HUE) & (order != NONE), 1.0",
            "order != HUE, 1.0"),
        "the hue's shift darkens, too": (
            "(order != HUE) & (order != NONE), 1.0",
            "order != NONE, 1.0"),
        "images without jitter change their hue": (
            "kind == HUE, hue",
            "(kind == HUE) | (kind == NONE), hue"),
        "top and left from one number": ("torch.rand(2, n)", "torch.rand(1, n)"),
        "a draw that all batches share": ("2 * torch.rand(n, 4)", "2 * torch.rand(4)"),
        "the mean is copied at every step": (
            "to_device(torch.tensor([mean, std], dtype=x.dtype), x.device)",
            "torch.tensor([mean, std], dtype=x.dtype, device=x.device)"),
        "factors in the order of the kinds": ("factors.gather(1, order.clamp(min=0))", "factors"),
        "the rows are mirrored": (
            "[torch.zeros_like(flip), flip]",
            "[flip, torch.zeros_like(flip)]"),
        "no way back to the whole image": ("box_size.masked_fill_(~fits.any(dim=1), size)", "pass"),
        "the hue turns the other way": ("-torch.arange(3", "torch.arange(3"),
        "red, green and blue exchanged": (
            "r, g, b = x.unbind(dim=1)\n"
            "    return (0.2989",
            "b, g, r = x.unbind(dim=1)\n"
            "    return (0.2989"),
        "sigma not squared": ("(offset / sigma[:, None]) ** 2", "offset**2 / sigma[:, None]"),
        "multiplied by the std": (".div_(std)", ".mul_(std)"),
        "the hue always last": (
            "        apply_where(kind == HUE, hue",
            "    apply_where(order[:, 0] != NONE, hue"),
        "boxes are drawn for the view's size, not for the stored image's": (
            "draws = draws or self.draw(len(x), x.shape[2])",
            "draws = draws or self.draw(len(x), self.size)"),
        "a tensor is not pinned": (
            "return v.pin_memory().to(device, non_blocking=True)", "return v.to(device)"),
        "sigma is never near its ends": ("uniform_(0.1, 2.0)", "uniform_(0.6, 1.5)"),
        "half the jitter": ("(2 * torch.rand(n, 4) - 1)", "(torch.rand(n, 4) - 0.5)"),
    },
    "optim.py": {
        "a group without lr is left out": ("velocity, lrs, strict=True)", "velocity, lrs)"),
        "LARS forgets the weight decay": (
            "super().__init__(param_groups, momentum, weight_decay)",
            "super().__init__(param_groups, momentum)"),
        "the decay spares vectors": (
            "return w.grad.add(w, alpha=self.weight_decay)",
            "return w.grad.add(w, alpha=self.weight_decay * (w.ndim > 1))"),
        "dampened momentum": (
            "[self.direction(w_i) for w_i in w])",
            "[self.direction(w_i) for w_i in w], alpha=1 - self.momentum)"),
        "the lr inside the momentum": (
            "[self.direction(w_i) for w_i in w])\n"
            "            # η stays out of the sum, so a new η acts on all of v at once.\n"
            "            torch._foreach_add_(w, v, alpha=-lr)",
            "[self.direction(w_i) for w_i in w], alpha=lr)\n"
            "            torch._foreach_sub_(w, v)"),
        "LARS scales vectors too": ("if w.ndim <= 1:", "if False:"),
        "LARS divides the wrong way": ("w_norm / d_norm", "d_norm / w_norm"),
        "LARS divides by zero": ("(w_norm > 0) & (d_norm > 0)", "w_norm >= 0"),
        "the lr is not scaled with the batch": ("base_lr * batch_size / 256", "base_lr"),
        "the cosine forgets the warm-up": (
            "(step - warmup_steps) / (total_steps - warmup_steps)",
            "step / total_steps"),
        "the warm-up starts from zero": (
            "lr * (step + 1) / warmup_steps",
            "lr * step / warmup_steps"),
        "the last step has lr zero": ("(step - warmup_steps) /", "(step + 1 - warmup_steps) /"),
        "the momentum is not restored": ("v.copy_(saved_v)", "pass"),
    },
    "options.py": {
        "the header gives the stored size of views": (
            'f" of {args.image_size} px" *',
            'f" of {args.stored_size} px" *'),
        "a resumed run forgets that bad images are left out": (
            '"device", "compile",\n', '"device", "compile", "skip_bad_images",\n'),
        "an option of the run that one method asks for is taken from the others": (
            ' - {"epochs", "batch_size", "lr",', " - {"),
        "another --image-size is ignored": (
            '(("image_size", view_size), ("stored_size", stored_size))',
            '(("stored_size", stored_size),)'),
        "the header has a schedule for a predictor that does not learn": (
            "any(w.requires_grad for w in run.model.h.parameters())",
            "any(True for w in run.model.h.parameters())"),
        "resnet20 gets the recipe of a GPU": (
            'if args.arch in ("resnet8", "resnet20"):', 'if args.arch == "resnet8":'),
        "--crop-min does not reach the views": (
            "args.std, args.crop_min, blur_p=args.blur)",
            "args.std, blur_p=args.blur)"),
        "--blur does not reach the views": (
            "args.crop_min, blur_p=args.blur)",
            "args.crop_min)"),
        "the header hides the stop-gradient": (
            'if "stopgrad" in words', 'if "stopgrad" not in words'),
        "any similarity is accepted": (
            'g("--similarity", choices=SIMILARITIES,', 'g("--similarity",'),
        "the header says the opposite of stopgrad": (
            "'with' if args.stopgrad else 'without'",
            "'without' if args.stopgrad else 'with'"),
        "vicreg trains Barlow Twins": ('"vicreg": VICReg', '"vicreg": BarlowTwins'),
        "nothing is compiled": (
            'model.compile(mode="reduce-overhead" if graphs else "default")', "pass"),
        "no graphs on a GPU": ("if graphs", "if not graphs"),
        "graphs overwrite the gradients of a piece": (
            "parallel.world_size() == args.accumulate == 1", "parallel.world_size() == 1"),
        "bf16 does not reach the network": ("bf16=args.bf16", "bf16=False"),
        "a flag younger than the run is accepted": ("{**vars(p.parse_args([])), **saved}", "saved"),
        "a resumed run takes other options": ("    if changed:\n", "    if False:\n"),
        "a flag that the method lacks is ignored": ("    if foreign:\n", "    if False:\n"),
        "a recipe overrides the command line": (
            "if getattr(args, name) is None and not foreign:",
            "if not foreign:"),
        "no bottleneck unless asked for": ("max(1, args.dim // 4)", "args.dim"),
        "small images get the ImageNet stem": (
            '"cifar" if image_size <= 64',
            '"cifar" if image_size <= 24'),
        "the switches do not reach the model": (
            "for name in OPTIONS[args.method]}\n    backbone =",
            'for name in ("dim", "proj_layers") if name in OPTIONS[args.method]}\n    backbone ='),
        "a recipe overrides the method": (
            "{**RECIPES[key], **{k: v for k, v in own.items() if v is not None}}",
            "{**own, **RECIPES[key]}"),
        "MoCo has SimSiam's lr": (
            '    if args.method == "moco":\n        values["lr"] = MOCO_LR[key]\n', ""),
        "images of exactly 64 px get ImageNet's recipe": (
            "    if image_size > 64:",
            "    if image_size >= 64:"),
    },
    "train.py": {
        "the lr of a piece instead of that of the batch": (
            "scaled_lr(args.lr, N)", "scaled_lr(args.lr, N // args.accumulate)"),
        "epoch 0 measures the images in the order of their files": (
            "order = torch.randperm(len(x))", "order = torch.arange(len(x))"),
        "images per second include the time of kNN": (
            '"images_per_s": images / seconds',
            '"images_per_s": images / (time.monotonic() - started)'),
        "the rate of an epoch is that since the start": (
            "run.clock = time.monotonic(), state.step",
            "run.clock = run.clock if run.clock[0] else (time.monotonic(), state.step)"),
        "another process's images are read ahead": (
            "prefetch(parallel.shard(following, args.accumulate))",
            "prefetch(parallel.shard(following))"),
        "the gradients of all pieces but the last are lost": (
            "run.optimizer.zero_grad()  # first, as --accumulate calls backward() in loss_fn\n"
            "                L, z1 = loss_fn(x1, x2)\n",
            "L, z1 = loss_fn(x1, x2)\n                run.optimizer.zero_grad()\n"),
        "a network of NaN is saved within an epoch": (
            "                if stop or due:\n                    check_finite(run)\n",
            "                if stop or due:\n"),
        "a process saves alone": (
            "parallel.agree(bool(signals), checkpoint.is_due(run))",
            "(*parallel.agree(bool(signals)), checkpoint.is_due(run))"),
        "the bar does not look at the loss": (
            '    check_finite(run)\n    return f"loss',
            '    return f"loss'),
        "the bar does not move": ("                advance()\n", ""),
        "the bar ends with the schedule": (
            "progress_bar(run.last_step, state.step,",
            "progress_bar(run.total_steps, state.step,"),
        "the estimate is of the first batch": ("if i == min(1, batches - 1):", "if i == 0:"),
        "processes keep more outputs than one": ("* parallel.world_size() >= 2048", ">= 2048"),
        "views.png shows the first class": ("sample = x[:: len(x) // 16 + 1]", "sample = x[:16]"),
        "a script of one's own trains without its study": (
            "return train(parse(argv), study)", "return train(parse(argv))"),
        "epoch 0 measures half as many images": ("math.ceil(2048 /", "math.ceil(1024 /"),
        "the last kNN may be one that was not measured": (
            'f"{knns[-1]:.1f} % (', 'f"{last[\'knn\']:.1f} % ('),
        "boxes are drawn in a view, not in the photograph": (
            "draws = self.augment.draw(2 * len(indices), x.shape[2])",
            "draws = self.augment.draw(2 * len(indices), self.augment.size)"),
        "kNN sees whole photographs": (
            "backbone, x, args.mean, args.std, args.image_size).to(args.device)",
            "backbone, x, args.mean, args.std).to(args.device)"),
        "raw pixels stay off the device": (
            "args.image_size).to(args.device)", "args.image_size)"),
        "raw pixels are the network's features": (
            "knn_eval(run, nn.Flatten())", "knn_eval(run, run.model.backbone)"),
        "raw pixels may take any memory": (
            " or images.labelled.numel() + images.test.numel() > 2e8", ""),
        "raw pixels of a large test set may take any memory": (
            "images.labelled.numel() + images.test.numel() > 2e8", "images.labelled.numel() > 2e8"),
        "torchrun's run goes on in one process": (
            'python = ("python" if processes == 1 else', 'python = ("python" if processes else'),
        "epoch 0 waits for the compiler": ("run.model.forward(", "run.model("),
        "--accumulate is ignored": ("        if args.accumulate > 1:", "        if False:"),
        "each rank evaluates with its own statistics": (
            "    if args.local_bn:\n", "    if False:\n"),
        "views.png shows one view twice": (
            "len(both), x.shape[2])).chunk(2)",
            "len(both), x.shape[2])).chunk(2)[:1] * 2"),
        "epoch 0 fills MoCo's queue": ("with torch.no_grad():", "with torch.enable_grad():"),
        "studies are computed in pieces": (
            "if study and args.accumulate *",
            "if args.accumulate < 0 *"),
        "the two views are one": (
            "for v in draws]).chunk(2)",
            "for v in draws]).chunk(2)[:1] * 2"),
        "every step waits for the device": ("to_device(indices, x.device)", "indices.to(x.device)"),
        "no shuffling": (
            "state.order = torch.randperm(len(run.images.train))",
            "state.order = torch.arange(len(run.images.train))"),
        "gradients pile up": ("run.optimizer.zero_grad()  #", "#"),
        "no weight decay": ("weight_decay=args.weight_decay)", "weight_decay=0)"),
        "the predictor is not trained": (
            "return [rest, list(model.h.parameters())]",
            "return [rest, []]"),
        "the predictor is in both groups": ('and not name.startswith("h.")', ""),
        "the predictor's lr decays always": (
            'peak_lr if args.predictor_lr == "constant" else lr',
            "lr"),
        "the predictor's lr decays never": (
            'peak_lr if args.predictor_lr == "constant" else lr',
            "peak_lr"),
        "kNN asks the training images": (
            "images.train_labels, query, images.test_labels",
            "images.train_labels, bank, images.train_labels"),
        "a resumed run repeats a step": (
            "for step in range(state.step, min(",
            "for step in range(max(0, state.step - 1), min("),
        "a loss that is not finite is saved": (
            "    if bad or not finite:",
            "    if False:"),
        "an interrupted run is not saved": (
            "parallel.agree(bool(signals), ",
            "parallel.agree(False, "),
        "the losses of an epoch are never cleared": (
            "state.losses, state.outputs = [], []",
            "state.outputs = []"),
        "the warm-up is counted in steps": ("args.warmup_epochs * S)", "args.warmup_epochs)"),
        "every seed is 0": ("torch.manual_seed(args.seed)", "torch.manual_seed(0)"),
        "std and rank are of the last batch": ("torch.cat(state.outputs)", "state.outputs[-1]"),
        "the loss of an epoch is that of its last step": (
            "parallel.gather(torch.stack(state.losses)).mean().item()",
            "state.losses[-1].item()"),
        "too few outputs are kept": (
            "sum(map(len, state.outputs[1:]))",
            "sum(map(len, state.outputs))"),
        "the base lr is recorded, not the step's": (
            '"lr": state.lr, "images',
            '"lr": run.args.lr, "images'),
        "views are counted as images": (
            "(state.step - first) * run.args.batch_size",
            "(state.step - first) * 2 * run.args.batch_size"),
        "a collapsed run is called healthy": (
            'if not collapsed(last["std"]', 'if collapsed(last["std"]'),
        "the verdict gives both reasons where one holds": (
            ' * (last["std"] < COLLAPSED_STD)', ""),
        "an epoch's line has no seconds": ('  {seconds:4.0f} s"', '"'),
    },
    "lineval.py": {
        "the lr of the probe decays once per epoch": (
            "cosine_lr(lr, step, total_steps)",
            "cosine_lr(lr, step // steps_per_epoch, epochs)"),
        "images are cropped where they are": (
            "center_crop(x.to(device), size)",
            "center_crop(x, size)"),
        "the probe stays on the CPU": (
            "    probe.to(x.device)  # drawn on the CPU, like the order of the batches\n",
            ""),
        "the held-out tenth is the first class": (
            "order = torch.randperm(len(x)).to(x.device)\n    tenth",
            "order = torch.arange(len(x)).to(x.device)\n    tenth"),
        "the lr is scaled by the batch that was asked for": (
            "    batch_size = min(batch_size, len(x))\n",
            "    base_lr *= batch_size / (batch_size := min(batch_size, len(x)))\n"),
        "the probe's best lr may be at an edge": ("in (min(tried), max(tried))", "in ()"),
        "every epoch has the order of the first": (
            "if step % steps_per_epoch == 0:",
            "if step == 0:"),
        "a backbone in eval mode is left in train mode": (
            "backbone.train(mode)",
            "backbone.train()"),
        "the lr is chosen on the test images": (
            "lr = choose_lr(x, y, *settings) if",
            "lr = choose_lr(x_test, y_test, *settings) if"),
        "features of images from 0 to 255": (
            "normalize(center_crop(x.to(device), size)",
            "normalize(x.to(device).float()"),
        "the seed does not reach the probe": ("    torch.manual_seed(args.seed)\n", ""),
        "the probe is always SGD's": ('{"sgd": SGD, "lars": LARS}[args.optimizer]', "SGD"),
        "the probe's batch size is fixed": (
            "optimizer, args.epochs, args.batch_size",
            "optimizer, args.epochs, 256"),
        "kNN is asked for the training images": (
            "knn_accuracy(x, y, x_test, y_test), neighbours",
            "knn_accuracy(x, y, x, y), neighbours"),
        "features in train mode": ("    backbone.eval()\n", ""),
        "the backbone stays in eval mode": ("    backbone.train(mode)\n", ""),
        "votes without temperature": ("(cosine / T).softmax", "cosine.softmax"),
        "kNN on lengths": ("bank = F.normalize(bank, dim=1).T", "bank = bank.T"),
        "the last incomplete batch is not judged": (
            "F.normalize(query, dim=1).split(500)",
            "F.normalize(query[: max(500, len(query) // 500 * 500)], dim=1).split(500)"),
        "the lr is chosen on what was fitted": (
            "order[tenth:], order[:tenth]",
            "order, order[:tenth]"),
        "a probe that has diverged is judged": (" & logits.isfinite().all(dim=1)", ""),
        "top-5 is top-1": ("topk(min(k, probe.out_features)", "topk(min(1, probe.out_features)"),
        "ten classes, always": ("classes, device=q.device", "10, device=q.device"),
        "the nearest is the farthest": ("topk(k, dim=1)", "topk(k, dim=1, largest=False)"),
        "features of test images that are not finite are evaluated": (
            "if not (x.isfinite().all() and x_test.isfinite().all()):",
            "if not x.isfinite().all():"),
        "images are seen at the run's size": (
            'config["std"], images.view_size)\n            for split',
            'config["std"], config.get("image_size"))\n            for split'),
        "of unlabelled images none has features": (
            "images.labelled if images.classes else images.train", "images.labelled"),
    },
    "utils/checkpoint.py": {
        "a step beyond the last": ("not 0 <= step <= run.total_steps", "step < 0"),
        "a slash at the end of the images' path leaves no name": (
            "os.path.basename(os.path.abspath(name))", "os.path.basename(name)"),
        "what a study keeps must not change its form": (
            "like.update(extra={}, order", "like.update(order"),
        "after the first N minutes every step is saved": (
            "    run.saved_at = time.monotonic()\n", ""),
        "a resumed run counts its seconds from 0": (
            'time.monotonic() - saved["seconds"]',
            "time.monotonic()"),
        "checkpoints at the wrong epochs": (
            "run.state.step % (int(every) * run.steps_per_epoch) == 0",
            "run.state.step % int(every) == 0"),
        "the random state is not restored": ('torch.set_rng_state(saved["rng"].cpu())', "pass"),
        "other data go unnoticed": ("            if before != now:\n", "            if False:\n"),
        "a checkpoint of another format is resumed": ('or saved["format"] != FORMAT:', "or False:"),
    },
    "utils/cache.py": {
        "room for the images that are there, too": (
            "(cache.n_files - start) * image)",
            "cache.n_files * image)"),
        "the record is written before the images": (
            "                cache.file.flush()\n",
            ""),
        "rows and columns exchanged": ("permute(2, 0, 1)", "permute(2, 1, 0)"),
        "another folder's cache is used": ('record["digest"] == digest and ', ""),
        "no checksum": ("or cache.is_intact())", "or True)"),
        "links are followed": ("os.O_NOFOLLOW | os.O_NONBLOCK", "os.O_NONBLOCK"),
        "images are overwritten under another run": (
            "        old.unlink(missing_ok=True)\n    return open(path, \"x+b\")",
            "        pass\n    return open(path, \"w+b\")"),
        "the rest of a killed chunk stays": (
            "cache.file.seek((start - len(cache.bad)) * image)",
            "cache.file.seek(0, os.SEEK_END)"),
        "two runs decode at once": (
            "runs.locked(folder, lambda: print(waiting))", "contextlib.nullcontext()"),
        "each process of several makes a cache for itself": (
            "if parallel.world_size() > 1:\n                raise",
            "if False:\n                raise"),
        "the set counts as memory": ("mmap.ACCESS_READ", "mmap.ACCESS_COPY"),
        "other images are read ahead": ("file.fileno(), i * image", "file.fileno(), 0"),
    },
    "utils/console.py": {
        "outside the main thread signals are asked for": (
            "is not threading.main_thread():", "is None:"),
        "the estimate ignores --knn-every": (" / run.args.knn_every)", ")"),
        "the device is waited for at every step": (
            "time.monotonic() - shown", "time.monotonic() + shown"),
        "under torchrun a second signal stops at once": (
            "number == signal.SIGHUP or not alone", "number == signal.SIGHUP"),
        "Ctrl-C is obeyed in mid-step": ("        if received:\n", "        if True:\n"),
        "Ctrl-C is never obeyed": ("        if received:\n", "        if False:\n"),
        "a lost stream ends the run": (
            "with contextlib.suppress(OSError, ValueError):  # ValueError: it has been closed",
            "with contextlib.suppress(KeyError):  # ValueError: it has been closed"),
    },
    "utils/faults.py": {
        "all machines' processes on this one's GPUs": (
            'int(os.environ.get("LOCAL_WORLD_SIZE", 1))',
            "parallel.world_size()"),
        "bfloat16 that is emulated": (
            "is_bf16_supported(including_emulation=False)",
            "is_bf16_supported()"),
        "synchronised BN is thought to need two images of each process": (
            "(N // (P * K if args.local_bn else K) < 2",
            "(N // (P * K) < 2"),
    },
    "utils/device.py": {
        "freed memory is returned to the system": ("mallopt(-4, 0)", "pass"),
        "for a GPU clang alone will not do": ('["gcc", "clang"]', '["gcc"]'),
    },
    "utils/data.py": {
        "labels of images that have none": (
            "n, labels = len(self.train_labels), self.train_labels",
            "n, labels = len(self.train), self.train_labels"),
        "a set of one's own is not checked": ("    check(name, images)\n", ""),
        "all shapes have more tint": ("else 0.02)", "else 0.03)"),
        "the system reads around an image": ("mmap.MADV_RANDOM", "mmap.MADV_NORMAL"),
        "the system does not read on for features": ("mmap.MADV_NORMAL", "mmap.MADV_RANDOM"),
        "mean and std of the first 5000 images": (
            "x = self.train[:: math.ceil(len(self.train) / 5000)]",
            "x = self.train[:5000]"),
        "shapes have each other's names": (
            ".to(torch.uint8), labels",
            ".to(torch.uint8), labels.flip(0)"),
        "the test images are training images": (
            "test, test_labels = draw_shapes(1000, size, tint, seed=1)",
            "test, test_labels = train[:1000], train_labels[:1000]"),
        "shapes of different areas": ("box(x, y, 1.0, 0.3375)", "box(x, y, 1.0, 0.3)"),
        "the tint is forgotten": ('tint=0.3 if name == "shapes-tinted" else 0.02', "tint=0.02"),
        "the std may be zero": (".clamp(min=1 / 255**2)", ""),
        "the bank has images without labels": (
            "self.train[: len(self.train_labels)]",
            "self.train"),
        "every tenth image is held out, whatever its class": (
            "held[by_class[::10]] = True",
            "held[::10] = True"),
        "all images have the same tint": (
            "    light = uniform(-tint, tint, 3, 1, 1)",
            "    light = uniform(-tint, tint, 3, 1, 1)[:1]"),
    },
    "utils/folders.py": {
        "images are resized by bicubic": (
            "(size, size), Image.Resampling.BILINEAR)",
            "(size, size))"),
        "the last bad file is called the first": ("cached.bad[0]", "cached.bad[-1]"),
        "endings in capitals are left out": (
            "entry.name.lower().endswith", "entry.name.endswith"),
        "unlabelled images come first": (
            "return train_files + unlabelled, test", "return unlabelled + train_files, test"),
        "an unlabelled image is one of the first class": ("[(e, -1) for e", "[(e, 0) for e"),
        "links that lead in circles are followed": ("os.path.realpath(here))", "str(here))"),
        "unlabelled images make up for a missing split": (
            "if unlabelled and not any(", "if unlabelled and not all("),
        "a bad test image moves a training image": (
            "int(good[:n_train].sum())", "n_train - len(cached.bad)"),
        "the size is that of a file in the middle": (
            "statistics.median_high(sides or [224])", "(sides or [224])[len(sides) // 2]"),
        "JPEGs are decoded too small": ("(2 * size, 2 * size)", "(size, size)"),
        "workers run the script first": ('"fork" if sys.platform == "linux" else None', "None"),
        "a worker for each core of the machine": (
            "min(cores, math.ceil(n / 16))", "os.cpu_count()"),
        "a changed file is not noticed": (
            "status = status.st_size, status.st_mtime_ns",
            "status = 0"),
        "files in the order of the disk": ("sorted(images, key=lambda e: e.name)", "images[::-1]"),
        "sixteen bits are clipped": ('image.mode.startswith("I;16")', "False"),
        "bad images become black ones": (
            "labels, n_train = labels[good], int(good[:n_train].sum())",
            "pass"),
        "EXIF's orientation is ignored": ("ImageOps.exif_transpose(image)", "image"),
        "photographs are kept no larger than views": ("round(S * 8 / 7)", "S"),
        "what was decoded is decoded again": ("range(first, len(paths)", "range(0, len(paths)"),
        "a folder that was moved is decoded again": (
            'lines.append(f"{os.path.relpath(entry.path, path)}\\0{status}\\n")',
            'lines.append(f"{entry.path}\\0{status}\\n")'),
        "images in other modes lose their colours": (
            'image = image.convert("RGB")',
            'image = (image if image.mode == "RGB" else image.convert("L")).convert("RGB")'),
    },
    "utils/parallel.py": {
        "every rank computes what rank 0 tells them": (
            "[None if rank() else function()]",
            "[function()]"),
        "any error of NCCL is a process that ended": ('"gloo|ncclRemoteError"', '"gloo|NCCL"'),
        "two machines decode at once": (
            "0 if rank() == 0 else 1 if is_first() else 2", "0 if is_first() else 1"),
        "only the first wait is one": ("math.ceil(arrived / P) * P", "P"),
        "each rank computes everything": (
            "    if world_size() == 1:\n        return function(x)",
            "    if True:\n        return function(x)"),
        "no statistics are shared": ("        dist.broadcast(buffer, 0)", "        pass"),
        "every rank has the gradient of its own loss": ("return AllSum.apply(grad)", "return grad"),
        "the gradients are not averaged": (
            "        model = nn.parallel.DistributedDataParallel(model)\n",
            "        pass\n"),
        "all ranks take the first slice": ("[:, rank()].flatten", "[:, 0].flatten"),
        "the rows come in the order of the ranks": (
            "chunk(world_size()), dim=1)", "chunk(world_size()))"),
        "a signal stops one process only": ("dist.all_reduce(flags, dist.ReduceOp.MAX)", "pass"),
    },
    "utils/sync_bn.py": {
        "statistics in bfloat16": ("x.to(self.running_mean.dtype), x.dtype,", "x, x.dtype,"),
        "BN stays local": ("m.__class__ = SyncBN", "pass"),
        "the running variance is biased": ("(M / (M - 1))", "1"),
        "the running variance knows only one slice": (
            "M = world_size() * x.numel()",
            "M = x.numel()"),
    },
    "utils/plot.py": {
        "the picture's rows are exchanged": ("[originals, *views]", "[*views, originals]"),
        "the cross-entropy's loss is off the panel": (
            "low <= bottom and top <= high", "low <= bottom"),
        "the names of close lines overprint": ("max(place, previous + 0.07)", "place"),
        "every line has the same marker": ('"osv^DxP*"[i % 8]', '"o"'),
        "no legend": ("    if handles:\n", "    if False:\n"),
        "epochs without kNN become zeros": (
            '(r["epoch"], r[key]) for r in records if r[key] is not None',
            '(r["epoch"], r[key] or 0) for r in records'),
        "views above the originals": (
            "torch.cat([originals, *views])",
            "torch.cat([*views, originals])"),
        "the untrained line of a run without epoch 0": (
            'first["epoch"] == 0 and first["knn"]', 'first["knn"]'),
        "a loaded network is called untrained": (
            'references.setdefault("knn", {})[began]',
            'references.setdefault("knn", {})["untrained"]'),
        "no line for raw pixels": (
            'references["knn"]["raw pixels"] = first["pixels_knn"]', "pass"),
    },
    "utils/runs.py": {
        "a GPU's checkpoint needs a GPU": (
            "map_location=device, weights_only=True",
            "weights_only=True"),
        "a path with a slash at its end has no name": (
            "os.path.basename(os.path.abspath(args.data))", "os.path.basename(args.data)"),
        "files are written in place": ('path.with_name(path.name + ".part")', "path"),
        "no checksum": ("!= digest:", "!= digest and False:"),
        "code in a checkpoint is run": (
            "map_location=device, weights_only=True",
            "map_location=device, weights_only=False"),
        "two runs share a folder": ("fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH"),
        "a run is overwritten": (
            "if not args.resume and os.path.exists(",
            "if False and os.path.exists("),
        "weights that are NaN are accepted": ("if not w.isfinite().all()]", "if False]"),
        "the commit is that of the current directory": (
            '["git", "-C", str(home), "rev-parse"',
            '["git", "rev-parse"'),
        "a copy has the commit of the repository around it": (
            ', "GIT_CEILING_DIRECTORIES": str(home.parent)}', "}"),
        "the text is still in a buffer when it is synchronised": ("            file.flush()\n", ""),
    },
    "utils/weights.py": {
        "small shares of the labels overwrite one another": (
            "{args.labels:g}", "{args.labels:.1f}"),
        "what a file says of its network does not count": (
            "    if name in networks:\n", "    if False:\n"),
        "the first of several networks that fit": (")) > 1:", ")) > 99:"),
        "the padding of a stem is not exported": (
            '"stem", "padding", "image_size"', '"stem", "image_size"'),
        "a program is recorded with small images": (
            '224 if about["stem"] == "imagenet" else 32', "32"),
        "other images are normalised by their own mean": (
            'if config.get("mean") is None:', "if True:"),
        "a run named by its checkpoint has no place for the result": (
            "folder = args.run if os.path.isdir(args.run) else os.path.dirname(args.run)",
            "folder = args.run"),
        "an export of another network is refused": ('tensors, ""  #', '{}, ""  #'),
        "an export normalises by the batch": ("contiguous_format).eval()", "contiguous_format)"),
        "the map shows the training images": (
            "args.map, x_test, images.test_labels",
            "args.map, x, images.train_labels"),
        "infinite weights of others are accepted": (
            "if not w.isfinite().all()]:",
            "if w.isnan().any()]:"),
        "an exported program computes in bfloat16": (
            "    network.bf16 = False  # whoever loads it decides\n",
            ""),
        "the printed CIFAR stem always pads by 1": (
            "padding = network.conv1.padding[0]",
            "padding = 1"),
    },
    "baselines/byol.py": {
        "--pred-dim does not reach h": (
            "self.h = mlp(dim, pred_dim, dim)",
            "self.h = mlp(dim, dim, dim)"),
        "only the backbone is trained": (
            "self.h = mlp(dim, pred_dim, dim)",
            "self.h = mlp(dim, pred_dim, dim).requires_grad_(False)"),
        "the target never moves": (
            "        momentum_update(self.target, nn.Sequential(self.backbone, "
            "self.projector), self.m)\n",
            ""),
        "the target moves too far": ("w_t.lerp_(w, 1 - m)", "w_t.lerp_(w, m)"),
        "the target's head stays behind": (
            "zip(target.parameters(), online.parameters(), strict=True)",
            "zip(target.parameters(), online[0].parameters())"),
        "the target is the encoder itself": ("copy.deepcopy(nn.Sequential(", "(nn.Sequential("),
        "each view predicts itself": (
            "D(p1, self.f_t(x2)) / 2 + D(p2, self.f_t(x1)) / 2",
            "D(p1, self.f_t(x1)) / 2 + D(p2, self.f_t(x2)) / 2"),
    },
    "baselines/moco.py": {
        "the keys of the second view are queued twice": ("/ 2, [k1, k2]", "/ 2, [k2, k2]"),
        "keys are queued before the loss": (
            "        L, keys = self.info_nce(z1, k2), [k2]\n",
            "        self.enqueue(k2)\n"
            "        L, keys = self.info_nce(z1, k2), [k2]\n"),
        "the queue stands still": ("        self.next += len(k)\n", ""),
        "the queue is not saved": (
            'self.register_buffer("queue", F.normalize(torch.randn(queue, dim), dim=1))',
            "self.queue = F.normalize(torch.randn(queue, dim), dim=1)"),
        "keys are not normalised": (
            "return F.normalize(self.target(x), dim=1)",
            "return self.target(x)"),
        "no temperature": ("dim=1) / T", "dim=1)"),
        "the positive is the last class": ("[own, others]", "[others, own]"),
        "the oldest keys of a large batch are kept": (
            "k[-len(self.queue) :]",
            "k[: len(self.queue)]"),
        "the target never moves": (
            "        momentum_update(self.target, nn.Sequential(self.backbone, "
            "self.projector), self.m)\n",
            ""),
    },
    "baselines/simclr.py": {
        "an anchor is its own negative": ("logits.masked_fill(itself, -torch.inf)", "logits"),
        "the positive is the next image": ("roll(len(p) // 2)", "roll(1)"),
        "no stop-gradient": ("z.detach() if self.stopgrad else z", "z"),
    },
    "baselines/swav.py": {
        "the softness of the codes is fixed": ("sinkhorn(s, self.epsilon)", "sinkhorn(s, 0.05)"),
        "the codes have a gradient": ("q.detach() if self.stopgrad else q", "q"),
        "the codes are mere softmaxes": ("for _ in range(iterations)", "for _ in range(0)"),
        "prototypes have lengths": (
            "F.normalize(self.prototypes.weight, dim=1)",
            "self.prototypes.weight"),
        "temperature left out": ("self.h(s1 / T), self.h(s2 / T)", "self.h(s1), self.h(s2)"),
        "each view predicts its own code": (
            "self.D(p1, s2) / 2 + self.D(p2, s1) / 2",
            "self.D(p1, s1) / 2 + self.D(p2, s2) / 2"),
        "only the columns are balanced": (
            "        q = q / q.sum(dim=1, keepdim=True)",
            "        #"),
        "prototypes are normalised along the wrong axis": (
            "F.normalize(self.prototypes.weight, dim=1)",
            "F.normalize(self.prototypes.weight, dim=0)"),
    },
    "baselines/barlow.py": {
        "the output layer has a bias": (
            "nn.Linear(dim, dim, bias=False))", "nn.Linear(dim, dim))"),
        "a larger ε in BN": (
            "F.batch_norm(z, None, None, training=True)",
            "F.batch_norm(z, None, None, training=True, eps=1e-3)"),
        "the whole matrix is driven to one": ("C.diagonal().square().sum()\n", "0\n"),
        "channels are not normalised": ("F.batch_norm(z, None, None, training=True)", "z"),
        "lambda weighs the diagonal": ("on + LAMBDA * off", "LAMBDA * on + off"),
        "the expander loses a layer": ("[dim] * (depth - 2)", "[dim] * (depth - 3)"),
        "half of λ": ("LAMBDA * off", "LAMBDA * off / 2"),
    },
    "baselines/vicreg.py": {
        "variances in place of stds": ("(z.var(dim=0) + 1e-4).sqrt()", "(z.var(dim=0) + 1e-4)"),
        "the diagonal is punished": (" - cov.diagonal().square().sum()", ""),
        "only one view has variance": ("variance(y1) + variance(y2)", "variance(y1)"),
    },
    "baselines/lejepa.py": {
        "the imaginary part is left out": (" + tu.sin().mean(dim=0).square()", ""),
        "half the integral": ("return 2 * len(u)", "return len(u)"),
        "the statistic does not grow with the batch": ("2 * len(u) *", "2 *"),
        "no weight": ("trapezoid(gap * gaussian, t)", "trapezoid(gap, t)"),
        "directions of any length": (
            "F.normalize(torch.randn(d, DIRECTIONS), dim=0)",
            "torch.randn(d, DIRECTIONS)"),
        "one view is regularised": (
            "(epps_pulley(y1 @ a).mean() + epps_pulley(y2 @ a).mean()) / 2",
            "epps_pulley(y1 @ a).mean()"),
        "a rank's slice is regularised": (
            "y1, y2 = gather(z1), gather(z2)",
            "y1, y2 = z1, z2"),
    },
    "experiments/claims.py": {
        "a refuted claim is undecided if one pair is": (
            '("does not hold", "a run diverged: undecided", "one seed: undecided")',
            '("one seed: undecided", "a run diverged: undecided", "does not hold")'),
        "no order of stds or ranks": (', "std": 0.01, "rank": 0.1', ""),
        "no correction for many comparisons": (
            "found._replace(level=levels[pair])", "found"),
        "Bonferroni's correction": ("max(strictest, (len(p) - i) * p", "max(strictest, len(p) * p"),
        "a larger p-value after one that is not significant may be": (
            "strictest = max(strictest, (len(p) - i) * p[what])",
            "strictest = (len(p) - i) * p[what]"),
        "intervals without correction": (
            "t_quantile(self.df, self.level)", "t_quantile(self.df)"),
        "pooled degrees of freedom": (
            "sum(shares) ** 2 / sum(share**2 / (len(row) - 1) for share, row "
            "in zip(shares, rows))",
            "100.0"),
        "rows without spread have no error": (
            "max(statistics.stdev(row), RESOLUTION[pair.key])",
            "(statistics.stdev(row) + 1e-9)"),
        "a margin is ignored": ("(mean - pair.by) / error", "mean / error"),
        "one tail of t": ("min(1.0, 2 * area", "min(1.0, area"),
        "a diverged run counts as one that did not collapse": (
            'math.isfinite(record["std"]) and not',
            "not"),
    },
    "experiments/logs.py": {
        "a run that diverged has no outputs": (
            '{"top1": math.nan, "outputs": {"centre": math.nan}}',
            '{"top1": math.nan}'),
        "a run goes on with another file's study": ("scale, study_file(row), path", "scale, path"),
        "logs of others' photographs are taken for one's own": (
            "if logged and logged != digest(path):", "if False:"),
        "a study's name is enough": (
            'if config.get("study_file", study_file(row)) != study_file(row):', "if False:"),
        "an interrupted run starts again": (
            'if not again and saved.get("format")', 'if False and saved.get("format")'),
        "the probe of the scale is ignored": (
            "lineval.main([str(out), *SCALES[scale].probe.split()])",
            "lineval.main([str(out)])"),
        "every run of a row has seed 0": ('f" --seed {seed}")', 'f" --seed 0")'),
        "a run of another recipe counts as done": ("config.get(name, value) == value", "True"),
        "every row gets all seeds": ("if seed < (row.seeds or seeds) and", "if"),
    },
    "experiments/measures.py": {
        "z is measured before the projector": (
            "nn.Sequential(model.backbone, model.projector)", "nn.Sequential(model.backbone)"),
        "outputs of a set with bad images": (
            "args.image_size, args.skip_bad_images,",
            "args.image_size, False,"),
        "the alignment of a view with itself": (
            "(torch.cat([model.f(augment(b)) for b in x.split(N)]) for _ in range(2))",
            "2 * [torch.cat([model.f(augment(b)) for b in x.split(N)])]"),
        "the centre of the rows as they are": (
            "F.normalize(z, dim=1).mean(dim=0)",
            "z.mean(dim=0)"),
        "uniformity of distances, not squared": (".square().mul(-2)", ".mul(-2)"),
    },
    "experiments/opt_aggregation.py": {
        "the geometric mean of the similarities is of the distances": (
            "2 * (1 - ((1 - u / 2 + EPS) * (1 - v / 2 + EPS)).sqrt())",
            "((u + EPS) * (v + EPS)).sqrt()"),
        "no stop-gradient": ("negative_cosine(p1, z2.detach())", "negative_cosine(p1, z2)"),
        "the means of the batch are combined": (
            "return mean(u, v).mean() - 1, z1",
            "return mean(u.mean(), v.mean()) - 1, z1"),
    },
    "experiments/opt_losses.py": {
        "L1 is a mean over the channels": (
            "(p - z).abs().sum(dim=1) / p.shape[1] ** 0.5", "(p - z).abs().mean(dim=1)"),
        "p and z are exchanged": (
            "DISTANCES[name](prepare(p), prepare(z))",
            "DISTANCES[name](prepare(z), prepare(p))"),
        "the vectors are not normalised": ("return F.normalize(v, dim=1)", "return v"),
    },
    "experiments/opt_optimizers.py": {
        "runs on all images count as held out": (" if label.endswith(HELD_OUT)}", "}"),
        "the average is never swapped in": (
            "if done == steps:\n"
            "                    w",
            "if 0:\n"
            "                    w"),
        "the start of the average is never reached": ("done > 3 * steps // 4", "done > 10**6"),
        "BN keeps the old statistics": (
            "            recompute_statistics(self.run)",
            "            pass"),
        "BN's new statistics are of batches of one class": (
            "torch.randperm(len(run.images.train))",
            "torch.arange(len(run.images.train))"),
        "the lr does not reach torch's optimiser": (
            '            group["lr"] = lr',
            "            pass"),
        "a grid is never widened at its low edge": (
            "top not in (lowest, highest)",
            "top != highest"),
        "a grid is widened at the wrong edge": ("if top == highest else", "if top == lowest else"),
        "the rates that failed on shapes are tried on photographs, too": (
            "if knn >= max(on_shapes.values()) / 2]",
            "if knn >= 0]"),
    },
    "experiments/opt_regularizers.py": {
        "the identity is on the CPU": (
            "torch.eye(len(W), device=W.device, dtype=W.dtype)",
            "torch.eye(len(W), dtype=W.dtype)"),
        "clipping switches off the weight decay": (
            "Clipped(sgd.param_groups, sgd.momentum, sgd.weight_decay)",
            "Clipped(sgd.param_groups, sgd.momentum)"),
    },
    "experiments/sec46_symmetry.py": {
        "the second pair is the first": (
            "run.model(*run.two_views(run.indices))",
            "run.model(x1, x2)"),
    },
    "experiments/sec52_alternation.py": {
        "the targets are used in the reverse order": ("*eta.pop(0))", "*eta.pop())"),
        "eta is computed at every step": ("min(i + k, S)", "min(i + 1, S)"),
        "eta of other images": (
            "state.order[j * N : (j + 1) * N]",
            "state.order[i * N : (i + 1) * N]"),
        "eta is not in the checkpoint": (
            'run.state.extra.setdefault("eta", [])',
            'run.__dict__.setdefault("eta", [])'),
        "each view is trained towards its own eta": (
            "D(model.h(z1), eta2) / 2 + model.D(model.h(z2), eta1) / 2",
            "D(model.h(z1), eta1) / 2 + model.D(model.h(z2), eta2) / 2"),
    },
    "experiments/sec52_expectation.py": {
        "m and 1 - m are exchanged": ("m * eta + (1 - m) * F", "(1 - m) * eta + m * F"),
        "eta is never averaged": ("m * eta + (1 - m) * F", "F"),
        "eta starts in another order": ("eta[order.argsort()]", "eta"),
        "the first eta is of batches of one class": ("torch.randperm(n)", "torch.arange(n)"),
        "the last batch of the first eta may be small": ("tensor_split(n // N)", "split(N)"),
        "eta starts at zero": ("run.two_views(i)) / 2", "run.two_views(i)) * 0"),
    },
    "experiments/table.py": {
        "two rows may share a log": ("if own & seen:", "if row.label in seen:"),
        "a claim may be about no row": ("({*labels_of(found)} - labels)", "(())"),
        "a fact may be about no row": (
            "if callable(claim.test):  # as if", "if False:  # as if"),
        "a row may have runs on different images": (
            "if any(digest != digests[0] for digest in digests):", "if False:"),
        "the loss of a study's epoch 0 is drawn": (
            'if row.study and first["epoch"] == 0', "if False"),
        "the supervised reference of another seed": (
            "references.SUPERVISED, scale, 0)", "references.SUPERVISED, scale, 1)"),
        "a reference that has not been run is compared with": (
            "for label, records in runs.items() if records}",
            "for label, records in runs.items()}"),
    },
    "experiments/references.py": {
        "raw pixels of other data": ('"--data", args.data', '"--data", "shapes"'),
    },
    "experiments/augmentations.py": {
        "the augmentation is there half of the time": (
            "setattr(run.augment, probability, 0.0)", "setattr(run.augment, probability, 0.5)"),
    },
    "experiments/details.py": {
        "one view's prediction meets its own target": (
            "model.D(p1, z2) / 2", "model.D(p1, z1) / 2"),
    },
    "experiments/common_parts.py": {
        "one target of two is not detached": ("cosine(p1, z2.detach())", "cosine(p1, z2)"),
        "SGD without momentum": ("momentum=0.9", "momentum=0.0"),
        "the smallest crop is not the run's": (
            "args.std, args.crop_min)", "args.std)"),
    },
    "experiments/theory_spectrum.py": {
        "two measures are exchanged": (
            'residual(outputs), outputs["alignment"]', 'outputs["alignment"], residual(outputs)'),
        "the residuals of a run that diverged have vanished": (
            'max(1 - outputs["centre"] ** 2, 0.0)', 'max(0.0, 1 - outputs["centre"] ** 2)'),
    },
    "experiments/theory_directpred.py": {
        "both planes are below the threshold": ("share * THRESHOLD", "0.5 * THRESHOLD"),
        "DirectPred's F is of one view": (
            "set_predictor(torch.cat([z1, z2]))",
            "set_predictor(z1)"),
    },
    "experiments/crops.py": {
        "whole is evaluated on parts of the squares": (
            'del config["stored_size"]', 'config["stored_size"]'),
        "an ending is lost": ('.with_name(f"{path.name}.png")', '.with_suffix(".png")'),
    },
    "experiments/compare.py": {
        "a share of the labels counts like all": ('probe.get("labels", 1) == 1', "True"),
        "an image is its own neighbour": ("bank[chosen], k, chosen)", "bank[chosen], k)"),
    },
    "experiments/finetune.py": {
        "the classifier pads its stem by 1": (
            "weights.network(config, ARCHS, len(images.classes))",
            'ARCHS[config["arch"]](config["stem"], len(images.classes))'),
    },
    "experiments/speed.py": {
        "the first turn counts": ("rates[1][1:]", "rates[1]"),
    },
    "experiments/all.py": {
        "one missing row hides a table": (
            "if len(done) < min(2, len(rows)):", "if len(done) < len(rows):"),
        "the time left counts the seconds of epoch 0": (
            'records[-1]["seconds"]',
            'records[0]["seconds"]'),
    },
}


# The tests that look at a script: those of its own name, and these.
TESTS = {"augment.py": ["train", "scripts"], "lineval.py": ["train", "scripts"],
         "train.py": ["runs", "options", "wiring", "resume", "console", "parallel"],
         "baselines/lejepa.py": ["parallel"],
         "options.py": ["train", "baselines", "wiring"], "simsiam.py": ["collapse"],
         "baselines/byol.py": ["wiring"], "utils/weights.py": ["lineval"],
         "utils/checkpoint.py": ["resume", "train", "runs", "wiring", "lineval"],
         "utils/device.py": ["train", "options"],
         "utils/faults.py": ["options", "wiring", "parallel"],
         "utils/console.py": ["runs", "train"], "utils/cache.py": ["folders"],
         "utils/sync_bn.py": ["parallel"], "utils/data.py": ["cache"],
         "utils/folders.py": ["cache"], "utils/plot.py": ["figures"],
         **dict.fromkeys(("experiments/table.py", "experiments/theory_directpred.py",
                          "experiments/theory_spectrum.py", "experiments/opt_optimizers.py"),
                         ["figures"])}


def files_watching(script):
    """The test files that should notice a mistake in a script."""
    path = pathlib.Path(script)
    names = [path.stem, *TESTS.get(script, [])]
    if path.parts[0] in ("baselines", "experiments"):
        names += {"baselines": ["baselines"], "experiments": [
            "rows", "scripts", "experiments", "studies", "measures"]}[path.parts[0]]
    return [f"tests/test_{name}.py" for name in names if (HOME / f"tests/test_{name}.py").exists()]


def outcome(home, script, files, right="", wrong=""):
    """pytest's return code and output on a copy of the repository in which a script is changed."""
    patterns = ["pytest.ini", "*.py", "experiments/results/**/*", *(
        f"{folder}/*.py" for folder in ("tests", "baselines", "experiments", "utils"))]
    for path in (path for pattern in patterns for path in HOME.glob(pattern) if path.is_file()):
        copy = home / path.relative_to(HOME)
        copy.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(path, copy)
    code = (home / script).read_text()
    assert not right or code.count(right) == 1, "the mutant no longer fits the script"
    (home / script).write_text(code.replace(right, wrong))
    done = subprocess.run([sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *files],
                          cwd=home, capture_output=True, text=True, timeout=1200)
    return done.returncode, done.stdout[-500:]


@pytest.mark.parametrize("script", MUTANTS)
def test_a_mutant_fits_its_script_in_one_place_and_is_Python(script):
    code = (HOME / script).read_text()
    for what, (right, wrong) in MUTANTS[script].items():
        assert right != wrong and code.count(right) == 1, what
        compile(code.replace(right, wrong), what, "exec")


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, what", [(script, what) for script, edits in MUTANTS.items() for what in edits]
)
def test_the_tests_notice_a_mistake(script, what, tmp_path):
    code, said = outcome(tmp_path, script, files_watching(script), *MUTANTS[script][what])
    assert code == 1, said  # 0: all passed; above 1: they did not run


@pytest.mark.slow
def test_without_a_mistake_the_same_tests_pass(tmp_path):
    code, said = outcome(tmp_path, "train.py", sorted(
        {name for script in MUTANTS for name in files_watching(script)}))
    assert code == 0, said
