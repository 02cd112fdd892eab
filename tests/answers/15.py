"""Answers to exercise 15, right and wrong."""

AVERAGE = "experiments/sec52_expectation.py:moving_average"


def average(*lines):
    return AVERAGE, ("def moving_average(eta, z, m):\n"
                     + "".join(f"    {line}\n" for line in lines))


UNIT = "z = F.normalize(z.detach(), dim=1)"
SEEN = "seen = (eta != 0).any(dim=1, keepdim=True)"
RETURN = "return torch.where(seen, m * eta + (1 - m) * z, z)"

WRONG = {
    "m and 1 - m exchanged": average(
        UNIT, SEEN, "return torch.where(seen, (1 - m) * eta + m * z, z)"),
    "an average with the zeros": average(UNIT, "return m * eta + (1 - m) * z"),
    "never averaged": average(UNIT, "return z"),
    "z is not normalised": average("z = z.detach()", SEEN, RETURN),
    "normalised over the batch": average("z = F.normalize(z.detach(), dim=0)", SEEN, RETURN),
    "normalised again": average(
        UNIT, SEEN, "return F.normalize(torch.where(seen, m * eta + (1 - m) * z, z), dim=1)"),
    "with gradient": average("z = F.normalize(z, dim=1)", SEEN, RETURN),
    "one first visit makes all first": average(
        UNIT, "return m * eta + (1 - m) * z if eta.any(dim=1).all() else z"),
    "one later visit makes all later": average(
        UNIT, "return m * eta + (1 - m) * z if eta.any() else z"),
    "channel by channel": average(UNIT, "seen = eta != 0", RETURN),
    "the sum tells": average(UNIT, "seen = eta.sum(dim=1, keepdim=True) != 0", RETURN),
    "eta is overwritten": average(
        UNIT, SEEN, "eta.mul_(m).add_((1 - m) * z)", "return torch.where(seen, eta, z)"),
    "z is overwritten": average(
        "z = z.detach()", "z /= z.norm(dim=1, keepdim=True)", SEEN, RETURN),
    "eta is normalised first": average(
        UNIT, SEEN, "eta = F.normalize(eta, dim=1)", RETURN),
}

RIGHT = {
    "a loop over images": average(
        "rows = []", "for old, new in zip(eta.tolist(), z.tolist()):",
        "    length = sum(v * v for v in new) ** 0.5", "    new = [v / length for v in new]",
        "    if any(old):", "        new = [m * a + (1 - m) * b for a, b in zip(old, new)]",
        "    rows.append(new)", "return z.new_tensor(rows)"),
    "lerp and a mask": average(
        "with torch.no_grad():", "    z = z / z.norm(dim=1, keepdim=True)",
        "    new = torch.lerp(eta, z, 1 - m)", "    first = eta.abs().sum(dim=1) == 0",
        "    new[first] = z[first]", "return new"),
    "m is 0 on the first visit": average(
        UNIT, "m = m * eta.any(dim=1, keepdim=True)", "return m * eta + (1 - m) * z"),
}
