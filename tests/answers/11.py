"""Answers to exercise 11, right and wrong."""

DIRECTION = "optim.py:LARS.direction"


def lars(*lines):
    return DIRECTION, "def direction(self, w):\n" + "".join(f"    {line}\n" for line in lines)


VECTOR = "if w.ndim <= 1: return w.grad"
D = "d = w.grad + self.weight_decay * w"
GUARD = "if w.norm() == 0 or d.norm() == 0: return d"
RATIO = "return d * (self.trust * w.norm() / d.norm())"

WRONG = {
    "the gradient where d is zero": lars(
        VECTOR, D, "if w.norm() == 0 or d.norm() == 0: return w.grad", RATIO),
    "vectors are scaled too": lars(D, GUARD, RATIO),
    "vectors decay": lars(D, "if w.ndim <= 1: return d", GUARD, RATIO),
    "no guard": lars(VECTOR, D, RATIO),
    "eps in place of a guard": lars(
        VECTOR, D, "return d * (self.trust * w.norm() / (d.norm() + 1e-8))"),
    "the norm of the gradient alone": lars(
        VECTOR, D, GUARD, "return d * (self.trust * w.norm() / w.grad.norm())"),
    "the sum of two norms, as in You et al.": lars(
        VECTOR, D, GUARD, "return d * (self.trust * w.norm()"
        " / (w.grad.norm() + self.weight_decay * w.norm()))"),
    "weight decay after the ratio": lars(
        VECTOR, "d = w.grad", GUARD,
        "return d * (self.trust * w.norm() / d.norm()) + self.weight_decay * w"),
    "no weight decay": lars(VECTOR, "d = w.grad", GUARD, RATIO),
    "a ratio per row": lars(
        VECTOR, D, GUARD,
        "dims = tuple(range(1, w.ndim))",
        "return d * (self.trust * w.norm(dim=dims, keepdim=True)"
        " / (d.norm(dim=dims, keepdim=True) + 1e-12))"),
    "the ratio upside down": lars(
        VECTOR, D, GUARD, "return d * (self.trust * d.norm() / w.norm())"),
    "no trust": lars(VECTOR, D, GUARD, "return d * (w.norm() / d.norm())"),
    "trust is a constant": lars(VECTOR, D, GUARD, "return d * (0.001 * w.norm() / d.norm())"),
    "clipped at 1": lars(
        VECTOR, D, GUARD, "return d * min(1.0, float(self.trust * w.norm() / d.norm()))"),
    "a convolution counts as a vector": lars(
        "if w.ndim != 2: return w.grad", D, GUARD, RATIO),
    "the gradient is changed": lars(
        VECTOR, "d = w.grad.add_(self.weight_decay * w)", GUARD, RATIO),
    "NaN where there is no gradient": lars(VECTOR, D, "if w.norm() == 0: return d", RATIO),
    "zero weights have the ratio 0": lars(
        VECTOR, D, "if d.norm() == 0: return d", RATIO),
}

RIGHT = {
    "if in place of torch.where": lars(VECTOR, D, GUARD, RATIO),
    "norms by hand": lars(
        "if len(w.shape) < 2:", "    return w.grad.clone()",
        "d = super().direction(w)",
        "length = lambda v: sum(float(x) ** 2 for x in v.flatten()) ** 0.5",
        "a, b = length(w), length(d)",
        "return self.trust * a / b * d if a * b > 0 else d"),
    "F.normalize": lars(
        "if w.dim() == 1:", "    return w.grad", D,
        "if not w.any() or not d.any():", "    return d",
        "unit = torch.nn.functional.normalize(d.flatten(), dim=0).view_as(d)",
        "return self.trust * torch.linalg.vector_norm(w) * unit"),
}
