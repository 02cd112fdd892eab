"""Answers to exercise 1, right and wrong."""

COSINE, D = "simsiam.py:negative_cosine", "simsiam.py:D"

WRONG = {
    "the similarity is ignored without stop-gradient": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    return similarity(p, z.detach()).mean() if stopgrad else negative_cosine(p, z).mean()
'''),
    "z is a constant for the cosine only": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    if stopgrad and similarity is negative_cosine:
        z = z.detach()
    return similarity(p, z).mean()
'''),
    "no eps in the normalisation": (COSINE, '''
def negative_cosine(p, z):
    return -((p / p.norm(dim=1, keepdim=True)) * (z / z.norm(dim=1, keepdim=True))).sum(dim=1)
'''),
    "NaN in the gradient of a row of zeros": (COSINE, '''
def negative_cosine(p, z):
    unit = lambda v: v / (v.square().sum(dim=1, keepdim=True).sqrt() + 1e-8)
    return -(unit(p) * unit(z)).sum(dim=1)
'''),
    "z is not normalised": (COSINE, '''
def negative_cosine(p, z):
    return -(F.normalize(p, dim=1) * z).sum(dim=1)
'''),
    "normalised over the batch": (COSINE, '''
def negative_cosine(p, z):
    return -(F.normalize(p, dim=0) * F.normalize(z, dim=0)).sum(dim=1)
'''),
    "normalised by the length of the whole batch": (COSINE, '''
def negative_cosine(p, z):
    return -(p / (p.norm() + 1e-8) * z / (z.norm() + 1e-8)).sum(dim=1)
'''),
    "the sign is missing": (COSINE, '''
def negative_cosine(p, z):
    return F.cosine_similarity(p, z)
'''),
    "a mean over the channels": (COSINE, '''
def negative_cosine(p, z):
    return -(F.normalize(p, dim=1) * F.normalize(z, dim=1)).mean(dim=1)
'''),
    "one number for the batch": (COSINE, '''
def negative_cosine(p, z):
    return -F.cosine_similarity(p, z).mean()
'''),
    "no stop-gradient": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    return similarity(p, z).mean()
'''),
    "always stop-gradient": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    return similarity(p, z.detach()).mean()
'''),
    "p is detached, not z": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    if stopgrad:
        p = p.detach()
    return similarity(p, z).mean()
'''),
    "both are detached": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    if stopgrad:
        p, z = p.detach(), z.detach()
    return similarity(p, z).mean()
'''),
    "z is detached in place": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    if stopgrad:
        z.detach_()
    return similarity(p, z).mean()
'''),
    "the sum over the batch": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    return similarity(p, z.detach() if stopgrad else z).sum()
'''),
    "similarity is ignored": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    return negative_cosine(p, z.detach() if stopgrad else z).mean()
'''),
    "p and z are exchanged": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    return similarity(z.detach() if stopgrad else z, p).mean()
'''),
}

RIGHT = {
    "F.cosine_similarity": (COSINE, '''
def negative_cosine(p, z):
    return -F.cosine_similarity(p, z, dim=1)
'''),
    "p / (norm + 1e-8)": (COSINE, '''
def negative_cosine(p, z):
    p = p / (p.norm(dim=1, keepdim=True) + 1e-8)
    z = z / (z.norm(dim=1, keepdim=True) + 1e-8)
    return -torch.einsum("nd,nd->n", p, z)
'''),
    "a loop over rows": (COSINE, '''
def negative_cosine(p, z):
    """Loops instead of tensors."""
    values = []
    for a, b in zip(p, z):
        a = a / torch.clamp(torch.linalg.vector_norm(a), min=1e-12)
        b = b / torch.clamp(torch.linalg.vector_norm(b), min=1e-12)
        total = 0
        for u, v in zip(a, b):
            total = total - u * v
        values.append(total)
    return torch.stack(values)
'''),
    "a sum over the batch, divided": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    target = z.data if stopgrad else z
    return similarity(p, target).sum() / len(p)
'''),
    "the stop-gradient by hand": (D, '''
def D(p, z, stopgrad=True, similarity=negative_cosine):
    if stopgrad:
        with torch.no_grad():
            z = z.clone()
    return torch.mean(similarity(p, z))
'''),
}
