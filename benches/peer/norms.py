"""PyTorch's norms on the shapes of benches/kernels.rs, one thread: GB/s of minimal bytes in process CPU time.

Forward 2 M N s bytes, backward 3 M N s, as in the benches. `python norms.py` prints one JSON line a measurement;
run it in turns with the benches on a quiet machine and divide. Needs `pip install torch`; CI does not run it. glibc gives large
buffers back on every call, which costs up to 7x above 32 MB; ours keeps them, so compare with
MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=17179869184.
"""
import json
import time

import torch

torch.set_num_threads(1)
SHAPES = [(4096, 1024), (16384, 768), (1024, 8192), (65536, 64)]


def best(f, repeats=9):
    f()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        f()
        times.append(time.process_time() - start)
    return min(times)


def show(kernel, dtype, m, n, size, seconds):
    print(json.dumps({"peer": "torch " + torch.__version__, "kernel": kernel, "dtype": str(dtype)[6:],
                      "shape": [m, n], "gb_per_s": round(size / seconds / 1e9, 2)}), flush=True)


def measure(dtype, m, n):
    x = torch.randn(m, n).to(dtype)
    r = torch.randn(m, n).to(dtype)
    dy = torch.randn(m, n).to(dtype)
    w, b = torch.ones(n, dtype=dtype), torch.zeros(n, dtype=dtype)
    size = x.numel() * x.element_size()
    y = torch.empty_like(x)
    show("copy", dtype, m, n, 2 * size, best(lambda: y.copy_(x)))
    layer = lambda x: torch.nn.functional.layer_norm(x, (n,), w, b, 1e-5)
    rms = lambda x: torch.nn.functional.rms_norm(x, (n,), w, 1e-6)
    for name, f in [("layer_norm", layer), ("rms_norm", rms)]:
        with torch.no_grad():
            show(name + " forward", dtype, m, n, 2 * size, best(lambda: f(x)))
        with torch.no_grad():
            show("add " + name + " forward", dtype, m, n, 4 * size, best(lambda: f(x + r)))
        xs = x.clone().requires_grad_()
        ws, bs = w.clone().requires_grad_(), b.clone().requires_grad_()
        if name == "layer_norm":
            out, wrt = torch.nn.functional.layer_norm(xs, (n,), ws, bs, 1e-5), (xs, ws, bs)
        else:
            out, wrt = torch.nn.functional.rms_norm(xs, (n,), ws, 1e-6), (xs, ws)
        show(name + " backward", dtype, m, n, 3 * size,
             best(lambda: torch.autograd.grad(out, wrt, dy, retain_graph=True)))


for dtype in (torch.float32, torch.bfloat16):
    for m, n in SHAPES:
        measure(dtype, m, n)
