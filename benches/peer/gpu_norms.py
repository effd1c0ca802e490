"""PyTorch's norms on a GPU, native and compiled, and Liger's where it is installed, beside a copy of the same bytes.

The shapes, types and bytes of `normative::kernels::cuda::bench`: tensors of 256 MiB, widths 64 to 16384, f32 and bf16;
forward 2 M N s bytes, with a residual 4, backward 3. `python gpu_norms.py` prints one JSON line a measurement, times by
the device's events, tensors in turns. Run it right after the selftest on the same machine and divide by the copies.
"""
import argparse
import json

import torch
import torch.nn.functional as F

BYTES, CALLS, TURNS = 256 << 20, 20, 2
WIDTHS = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]


def seconds(call):
    for i in range(CALLS):
        call(i % TURNS)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for i in range(CALLS):
        call(i % TURNS)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / CALLS


def show(peer, kernel, dtype, rows, width, tensors, call):
    try:
        time = seconds(call)
    except Exception as error:  # a peer that does not run is reported, and the others go on
        print(json.dumps({"peer": peer, "kernel": kernel, "dtype": str(dtype)[6:], "shape": [rows, width],
                          "error": repr(error)[:200]}), flush=True)
        return
    size = tensors * rows * width * dtype.itemsize
    print(json.dumps({"peer": peer, "kernel": kernel, "dtype": str(dtype)[6:], "shape": [rows, width],
                      "seconds": time, "bytes": size, "tb_per_s": round(size / time / 1e12, 3)}), flush=True)


def liger():
    try:
        from liger_kernel.ops.layer_norm import LigerLayerNormFunction
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    except ImportError:
        return None
    return (lambda x, w, b: LigerLayerNormFunction.apply(x, w, b, 1e-5), lambda x, w, b: LigerRMSNormFunction.apply(x, w, 1e-6))


def peers(width, compiled):
    layer = lambda x, w, b: F.layer_norm(x, (width,), w, b, 1e-5)
    rms = lambda x, w, b: F.rms_norm(x, (width,), w, 1e-6)
    yield f"torch {torch.__version__}", layer, rms
    if compiled:
        torch._dynamo.reset()
        yield f"torch.compile {torch.__version__}", torch.compile(layer), torch.compile(rms)
    if liger():
        yield "liger", *liger()


def measure(dtype, width, compiled):
    rows = BYTES // width // dtype.itemsize
    tensors = lambda: [torch.randn(rows, width, device="cuda", dtype=dtype) for _ in range(TURNS)]
    xs, dys = tensors(), tensors()
    y = torch.empty_like(xs[0])
    w = torch.ones(width, device="cuda", dtype=dtype, requires_grad=True)
    b = torch.zeros(width, device="cuda", dtype=dtype, requires_grad=True)
    show("torch", "copy", dtype, rows, width, 2, lambda turn: y.copy_(xs[turn]))
    for peer, layer, rms in peers(width, compiled):
        for name, norm, parameters in [("layer_norm", layer, (w, b)), ("rms_norm", rms, (w,))]:
            with torch.no_grad():
                show(peer, f"{name} forward", dtype, rows, width, 2, lambda turn: norm(xs[turn], w, b))
            leaves = [x.detach().requires_grad_() for x in xs]
            try:
                outs = [norm(x, w, b) for x in leaves]
            except Exception as error:
                print(json.dumps({"peer": peer, "kernel": name, "error": repr(error)[:200]}), flush=True)
                continue
            show(peer, f"{name} backward", dtype, rows, width, 3,
                 lambda turn: torch.autograd.grad(outs[turn], (leaves[turn], *parameters), dys[turn], retain_graph=True))
            del outs, leaves
        with torch.no_grad():
            show(peer, "add_layer_norm forward", dtype, rows, width, 4, lambda turn: layer(xs[turn] + dys[turn], w, b))
        show(peer, "softmax forward", dtype, rows, width, 2, lambda turn: torch.softmax(xs[turn], -1))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--compile", action="store_true", help="torch.compile, too: some seconds a shape")
    options.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    chosen = options.parse_args()
    for dtype in (torch.float32, torch.bfloat16):
        for width in chosen.widths:
            measure(dtype, width, chosen.compile)
