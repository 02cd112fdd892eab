"""Answers to exercise 4, right and wrong."""

STD, RANK = "simsiam.py:output_std", "simsiam.py:effective_rank"

WRONG = {
    "no root of d": (STD, '''
def output_std(z):
    return F.normalize(z, dim=1).std(dim=0, correction=0).mean()
'''),
    "std over the channels": (STD, '''
def output_std(z):
    return F.normalize(z, dim=1).std(dim=1, correction=0).mean() * z.shape[1] ** 0.5
'''),
    "divided by N - 1": (STD, '''
def output_std(z):
    return F.normalize(z, dim=1).std(dim=0).mean() * z.shape[1] ** 0.5
'''),
    "z is not normalised": (STD, '''
def output_std(z):
    return z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5
'''),
    "the root of the mean variance": (STD, '''
def output_std(z):
    return (F.normalize(z, dim=1).var(dim=0, correction=0).mean() * z.shape[1]).sqrt()
'''),
    "one number per channel": (STD, '''
def output_std(z):
    return F.normalize(z, dim=1).std(dim=0, correction=0) * z.shape[1] ** 0.5
'''),
    "squared singular values": (RANK, '''
def effective_rank(z):
    s = torch.linalg.svdvals(z) ** 2
    share = s / s.sum() + 1e-7
    return torch.exp(-(share * share.log()).sum())
'''),
    "z is centred": (RANK, '''
def effective_rank(z):
    s = torch.linalg.svdvals(z - z.mean(dim=0))
    share = s / s.sum() + 1e-7
    return torch.exp(-(share * share.log()).sum())
'''),
    "log(0)": (RANK, '''
def effective_rank(z):
    s = torch.linalg.svdvals(z)
    share = s / s.sum()
    return torch.exp(-(share * share.log()).sum())
'''),
    "the entropy itself": (RANK, '''
def effective_rank(z):
    s = torch.linalg.svdvals(z)
    share = s / s.sum() + 1e-7
    return -(share * share.log()).sum()
'''),
    "a logarithm to base 2": (RANK, '''
def effective_rank(z):
    s = torch.linalg.svdvals(z)
    share = s / s.sum() + 1e-7
    return torch.exp(-(share * share.log2()).sum())
'''),
    "the ordinary rank": (RANK, '''
def effective_rank(z):
    return torch.linalg.matrix_rank(z).to(z.dtype)
'''),
}

RIGHT = {
    "rows divided by hand": (STD, '''
def output_std(z):
    z = z / (z.norm(dim=1, keepdim=True) + 1e-8)
    var = (z * z).mean(dim=0) - z.mean(dim=0) ** 2
    return z.shape[1] ** 0.5 * var.clamp(min=0).sqrt().mean()
'''),
    "a loop over channels": (STD, '''
def output_std(z):
    unit = torch.stack([row / row.norm().clamp(min=1e-12) for row in z])
    stds = [((c - c.mean()) ** 2).mean().sqrt() for c in unit.T]
    return sum(stds) / len(stds) * len(stds) ** 0.5
'''),
    "torch.special.entr": (RANK, '''
def effective_rank(z):
    s = torch.linalg.svd(z, full_matrices=False).S
    return torch.special.entr(s / s.sum()).sum().exp()
'''),
    "zeros left out": (RANK, '''
def effective_rank(z):
    s = torch.linalg.svdvals(z)
    share = s[s > 1e-12 * s.max()] / s.sum()
    return torch.exp(-sum(q * torch.log(q) for q in share))
'''),
}
