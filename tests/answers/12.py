"""Answers to exercise 12, right and wrong."""

PREDICT, NEIGHBOURS = "lineval.py:knn_predict", "lineval.py:neighbours"


def knn(similar="unit(q) @ unit(row)", nearest="sorted(pairs, reverse=True)[:k]",
        weight="math.exp(s / T)", vote="votes[c] += weight"):
    """kNN by loops over rows."""
    return PREDICT, f"""
def knn_predict(bank, labels, query, classes, k=200, T=0.1):
    import math
    unit = lambda v: v / v.norm()
    predicted = []
    for q in query:
        pairs = [(float({similar}), int(c)) for row, c in zip(bank, labels)]
        votes = [0.0] * classes
        for s, c in {nearest}:
            weight = {weight}
            {vote}
        predicted.append(votes.index(max(votes)))
    return torch.tensor(predicted)
"""


def chunks(unit="F.normalize(bank, dim=1).T, F.normalize(query, dim=1)",
           topk="(q @ bank).topk(k, dim=1)", classes="labels[i]", joined="torch.cat(predictions)"):
    return PREDICT, f"""
def knn_predict(bank, labels, query, classes, k=200, T=0.1):
    bank, query = {unit}
    predictions = []
    for q in query.split(500):
        cosine, i = {topk}
        votes = torch.zeros(len(q), classes).scatter_add_(1, {classes}, (cosine / T).exp())
        predictions.append(votes.argmax(dim=1))
    return {joined}
"""


WRONG = {
    "the bank is normalised in place": chunks(
        unit="bank.div_(bank.norm(dim=1, keepdim=True)).T, F.normalize(query, dim=1)"),
    "the query is normalised in place": chunks(
        unit="F.normalize(bank, dim=1).T, query.div_(query.norm(dim=1, keepdim=True))"),
    "a list": chunks(joined="torch.cat(predictions).tolist()"),
    "the query is not normalised": chunks(unit="F.normalize(bank, dim=1).T, query"),
    "Euclidean distance": knn(similar="-(q - row).norm()", weight="math.exp(s)"),
    "not normalised": chunks(unit="bank.T, query"),
    "the bank is not normalised": chunks(unit="bank.T, F.normalize(query, dim=1)"),
    "the farthest": knn(nearest="sorted(pairs)[:k]"),
    "the absolute cosine": knn(similar="(unit(q) @ unit(row)).abs()"),
    "every vote counts the same": knn(weight="1.0"),
    "a vote weighs the cosine": knn(weight="s"),
    "no temperature": knn(weight="math.exp(s)"),
    "times T": knn(weight="math.exp(s * T)"),
    "all rows vote": knn(nearest="pairs"),
    "the nearest decides, whatever k": knn(nearest="sorted(pairs, reverse=True)[:1]"),
    "one neighbour too many": knn(nearest="sorted(pairs, reverse=True)[:k + 1]"),
    "the largest vote, not the largest sum": knn(vote="votes[c] = max(votes[c], weight)"),
    "a vote replaces the ones before": knn(vote="votes[c] = weight"),
    "only the first chunk is answered": chunks(joined="predictions[0]"),
    "each chunk votes with the first's neighbours": chunks(
        topk="(query[:len(q)] @ bank).topk(k, dim=1)"),
    "the row's number in place of its label": chunks(classes="i % classes"),
    "normalised over the channels": (PREDICT, '''
def knn_predict(bank, labels, query, classes, k=200, T=0.1):
    cosine, i = (F.normalize(query, dim=0) @ F.normalize(bank, dim=0).T).topk(k, dim=1)
    votes = torch.zeros(len(query), classes).scatter_add_(1, labels[i], (cosine / T).exp())
    return votes.argmax(dim=1)
'''),
    "a class may have no neighbour": (
        NEIGHBOURS,
        "def neighbours(labels, classes):\n    return min(200, len(labels) // classes // 2)\n"),
    "always 200": (NEIGHBOURS, "def neighbours(labels, classes):\n    return 200\n"),
    "a whole class": (
        NEIGHBOURS,
        "def neighbours(labels, classes):\n    return max(1, min(200, len(labels) // classes))\n"),
    "half the bank": (
        NEIGHBOURS,
        "def neighbours(labels, classes):\n    return max(1, min(200, len(labels) // 2))\n"),
    "not whole": (
        NEIGHBOURS,
        "def neighbours(labels, classes):\n"
        "    return max(1, min(200, len(labels) / classes / 2))\n"),
}

RIGHT = {
    "loops and sorting": knn(),
    "chunks": chunks(),
    "one product and one-hot labels": (PREDICT, '''
def knn_predict(bank, labels, query, classes, k=200, T=0.1):
    cosine = F.cosine_similarity(query[:, None], bank[None], dim=2)
    threshold = cosine.sort(dim=1, descending=True).indices[:, :k]
    mask = torch.zeros_like(cosine).scatter_(1, threshold, 1.0)
    return ((cosine / T).exp() * mask @ F.one_hot(labels, classes).to(cosine.dtype)).argmax(dim=1)
'''),
    "from the number of labels down": (NEIGHBOURS, '''
def neighbours(labels, classes):
    k = int(len(labels) / classes) // 2
    if k > 200:
        return 200
    return k if k else 1
'''),
}
