"""Answers to exercise 15, right and wrong."""

AVERAGE = "experiments/sec52_expectation.py:moving_average"


def average(*lines):
    return AVERAGE, ("def moving_average(eta, z, m):\n"
                     + "".join(f"    {line}\n" for line in lines))


UNIT = "z = F.normalize(z.detach(), dim=1)"
RETURN = "return m * eta + (1 - m) * z"

WRONG = {
    "z is detached in place": average("z = F.normalize(z.detach_(), dim=1)", RETURN),
    "m and 1 - m exchanged": average(UNIT, "return (1 - m) * eta + m * z"),
    "never averaged": average(UNIT, "return z"),
    "z is not normalised": average("z = z.detach()", RETURN),
    "normalised over the batch": average("z = F.normalize(z.detach(), dim=0)", RETURN),
    "normalised again": average(UNIT, "return F.normalize(m * eta + (1 - m) * z, dim=1)"),
    "with gradient": average("z = F.normalize(z, dim=1)", RETURN),
    "a target of zeros counts as new": average(
        UNIT, "seen = eta.any(dim=1, keepdim=True)",
        "return torch.where(seen, m * eta + (1 - m) * z, z)"),
    "eta is overwritten": average(UNIT, "return eta.mul_(m).add_((1 - m) * z)"),
    "z is overwritten": average("z = z.detach()", "z /= z.norm(dim=1, keepdim=True)", RETURN),
    "eta is normalised first": average(UNIT, "eta = F.normalize(eta, dim=1)", RETURN),
}

RIGHT = {
    "a loop over images": average(
        "rows = []", "for old, new in zip(eta.tolist(), z.tolist()):",
        "    length = sum(v * v for v in new) ** 0.5",
        "    rows.append([m * a + (1 - m) * b / length for a, b in zip(old, new)])",
        "return z.new_tensor(rows)"),
    "lerp": average(
        "with torch.no_grad():", "    z = z / z.norm(dim=1, keepdim=True)",
        "    return torch.lerp(eta, z, 1 - m)"),
}
