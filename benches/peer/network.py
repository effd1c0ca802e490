"""PyTorch eager on the network job of benches/execute.rs: init, forward, backward and statistics, one thread.

Pre-LN with LayerNorm, heads of 32, FFN of 4 d, ReLU, no biases, one sequence, float32. Statistics: of every site
(input, and after each sub-layer) the second moment, the overlap and the squared norm of the cotangent, and the squared norm of
every weight's gradient, each a float. `python network.py` prints one JSON line a shape: milliseconds of process CPU
time of the fastest network. Needs `pip install torch`; CI does not run it. Large buffers: as norms.py says, compare with
MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=17179869184.
"""
import json
import time

import torch
from torch.nn import functional as F

torch.set_num_threads(1)
SHAPES = [(64, 4, 64), (64, 128, 64), (128, 32, 128), (256, 32, 64), (256, 32, 256)]


def weight(n, m):
    return (torch.randn(n, m) * n**-0.5).requires_grad_()


def attention(x, w_q, w_k, w_v, w_o, heads):
    tokens, d = x.shape
    q, k, v = ((x @ w).view(tokens, heads, d // heads).transpose(0, 1) for w in (w_q, w_k, w_v))
    scores = q @ k.transpose(1, 2) * (d // heads) ** -0.5
    return (F.softmax(scores, -1) @ v).transpose(0, 1).reshape(tokens, d) @ w_o


def job(d, blocks, tokens):
    heads = max(1, d // 32)
    x = torch.randn(tokens, d).requires_grad_()
    sites, weights, norms = [x], [], []
    for _ in range(blocks):
        for shapes in ([(d, d)] * 4, [(d, 4 * d), (4 * d, d)]):
            w = [weight(*shape) for shape in shapes]
            gain, bias = torch.ones(d, requires_grad=True), torch.zeros(d, requires_grad=True)
            z = F.layer_norm(x, (d,), gain, bias, 1e-5)
            x = x + (attention(z, *w, heads) if len(w) == 4 else F.relu(z @ w[0]) @ w[1])
            x.retain_grad()
            sites.append(x)
            weights += w
            norms += [gain, bias]
    (x * torch.randn(tokens, d) * (tokens * d) ** -0.5).sum().backward()
    figures = []
    with torch.no_grad():
        for site in sites:
            unit = site / site.norm(dim=1, keepdim=True)
            pairs = tokens * (tokens - 1)
            figures += [(site**2).mean(), ((unit.sum(0) ** 2).sum() - tokens) / pairs, (site.grad**2).sum()]
        figures += [(p.grad**2).sum() for p in weights + norms]
        return torch.stack(figures).tolist()


def best(f, seconds=3.0):
    f()
    fastest, end = float("inf"), time.process_time() + seconds
    while time.process_time() < end:
        start = time.process_time()
        f()
        fastest = min(fastest, time.process_time() - start)
    return fastest


for d, blocks, tokens in SHAPES:
    ms = 1e3 * best(lambda: job(d, blocks, tokens))
    print(json.dumps({"peer": "torch " + torch.__version__, "job": [d, blocks, tokens], "ms": round(ms, 2)}), flush=True)
