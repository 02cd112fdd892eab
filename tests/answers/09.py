"""Answers to exercise 9, right and wrong."""

STEP = "optim.py:SGD.step"


def step(*lines, groups="zip(self.param_groups, self.velocity, lrs, strict=True)",
         skip="if w.grad is None:\n                    continue", head="@torch.no_grad()"):
    """A step in which these lines move one weight w with velocity v."""
    return STEP, f"""
{head}
def step(self, *lrs):
    for group, velocities, lr in {groups}:
        for i, (w, v) in enumerate(zip(group, velocities)):
                {skip}
""" + "".join(f"                {line}\n" for line in lines)


G = "g = self.direction(w)"

WRONG = {
    "damped momentum": step(
        G, "v.mul_(self.momentum).add_((1 - self.momentum) * g)", "w.sub_(lr * v)"),
    "Nesterov": step(G, "v.mul_(self.momentum).add_(g)", "w.sub_(lr * (g + self.momentum * v))"),
    "decoupled weight decay": step(
        "v.mul_(self.momentum).add_(w.grad)", "w.sub_(lr * (v + self.weight_decay * w))"),
    "no weight decay": step("v.mul_(self.momentum).add_(w.grad)", "w.sub_(lr * v)"),
    "the learning rate is in the velocity": step(
        G, "v.mul_(self.momentum).add_(lr * g)", "w.sub_(v)"),
    "the velocity is not kept": step(G, "v = self.momentum * v + g", "w.sub_(lr * v)"),
    "ascent": step(G, "v.mul_(self.momentum).add_(g)", "w.add_(lr * v)"),
    "no momentum": step(G, "v.copy_(g)", "w.sub_(lr * v)"),
    "the weights are not changed in place": step(
        G, "v.mul_(self.momentum).add_(g)", "group[i] = w - lr * v"),
    "zip without strict": step(
        G, "v.mul_(self.momentum).add_(g)", "w.sub_(lr * v)",
        groups="zip(self.param_groups, self.velocity, lrs)"),
    "the first learning rate for all": step(
        G, "v.mul_(self.momentum).add_(g)", "w.sub_(lrs[0] * v)"),
    "weights without gradient decay": step(
        "g = self.weight_decay * w + (0 if w.grad is None else w.grad)",
        "v.mul_(self.momentum).add_(g)", "w.sub_(lr * v)", skip="pass"),
    "the group ends at a weight without gradient": step(
        G, "v.mul_(self.momentum).add_(g)", "w.sub_(lr * v)",
        skip="if w.grad is None:\n                    break"),
    "the decay is added to the gradient itself": step(
        "w.grad += self.weight_decay * w", "v.mul_(self.momentum).add_(w.grad)", "w.sub_(lr * v)"),
    "the graph is kept": step(
        "w.requires_grad_(False)", G, "v.mul_(self.momentum).add_(g)", "w.sub_(lr * v)", head=""),
    "one velocity for all": step(
        G, "v = self.velocity[0][0]", "v.mul_(self.momentum).add_(g)", "w.sub_(lr * v)"),
    "LARS becomes SGD": step(
        "g = w.grad + self.weight_decay * w", "v.mul_(self.momentum).add_(g)", "w.sub_(lr * v)"),
    "weights without gradient coast": step(
        "if w.grad is not None:", "    v.mul_(self.momentum).add_(self.direction(w))",
        "w.sub_(lr * v)", skip="pass"),
    "a group without any gradient fails": (STEP, '''
@torch.no_grad()
def step(self, *lrs):
    for group, velocities, lr in zip(self.param_groups, self.velocity, lrs, strict=True):
        w, v = zip(*[(w, v) for w, v in zip(group, velocities) if w.grad is not None])
        torch._foreach_mul_(v, self.momentum)
        torch._foreach_add_(v, [self.direction(w_i) for w_i in w])
        torch._foreach_add_(w, v, alpha=-lr)
'''),
    "the velocity is kept elsewhere": step(
        "self.own = getattr(self, 'own', {})", G,
        "v = self.own[id(w)] = self.momentum * self.own.get(id(w), 0) + g", "w.sub_(lr * v)"),
}

RIGHT = {
    "w -= lr * v": step("g = self.direction(w)", "v *= self.momentum", "v += g", "w -= lr * v"),
    "with .data": step(
        "v.data = self.momentum * v + self.direction(w).data", "w.data = w.data - lr * v", head=""),
    "by index, the length checked first": (STEP, '''
@torch.no_grad()
def step(self, *lrs):
    if len(lrs) != len(self.param_groups):
        raise ValueError(f"{len(lrs)} learning rates for {len(self.param_groups)} groups")
    for i in range(len(lrs)):
        for j in range(len(self.param_groups[i])):
            w = self.param_groups[i][j]
            if w.grad is not None:
                d = self.direction(w)
                self.velocity[i][j] = self.momentum * self.velocity[i][j] + d
                w.copy_(w - lrs[i] * self.velocity[i][j])
'''),
}
