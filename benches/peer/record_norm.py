"""Answers the probes of `normative kernel --write-probes` with a norm of PyTorch, or of NumPy where there is no torch.

    python record_norm.py probes.safetensors answers.safetensors --norm layer_norm
    normative kernel answers.safetensors --as layer_norm

A norm is a function of (x, gain, bias, eps); add yours to NORMS and run again. The format stands in
src/verify/conformance/README.md. NumPy records outputs only, and no bf16.
"""
import argparse
import json

from safetensors import safe_open

try:
    import torch
except ImportError:
    torch = None
import numpy as np


def llama_rms_norm(x, gain, bias, eps):
    """transformers, modeling_llama: statistics in f32, rounding before the gain."""
    wide = x.to(torch.float32) if x.dtype != torch.float64 else x
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return gain * wide.to(x.dtype)


def numpy_layer_norm(x, gain, bias, eps):
    c = x - x.mean(-1, keepdims=True)
    return c / np.sqrt((c * c).mean(-1, keepdims=True) + x.dtype.type(eps)) * gain + bias


NORMS = {
    "layer_norm": lambda x, gain, bias, eps: torch.nn.functional.layer_norm(x, x.shape[-1:], gain, bias, eps),
    "rms_norm": lambda x, gain, bias, eps: torch.nn.functional.rms_norm(x, x.shape[-1:], gain, eps),
    "llama_rms_norm": llama_rms_norm,
    "numpy_layer_norm": numpy_layer_norm,
}


def answer_torch(norm, probe, eps, device):
    x, gain, bias = (probe[k].to(device).requires_grad_() for k in ("x", "gain", "bias"))
    y = norm(x, gain, bias, eps)
    grads = torch.autograd.grad(y, (x, gain, bias), probe["dy"].to(device), allow_unused=True)
    answers = dict(zip(("y", "dx", "dgain", "dbias"), (y, *grads)))
    return {k: v.detach().cpu().contiguous() for k, v in answers.items() if v is not None}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probes")
    parser.add_argument("answers")
    parser.add_argument("--norm", choices=NORMS, required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    use_torch = torch is not None and not args.norm.startswith("numpy")
    out = {}
    with safe_open(args.probes, "pt" if use_torch else "np") as file:
        eps = json.loads(file.metadata()["normative.kernel"])["eps"]
        for name in sorted({key.rsplit(".", 1)[0] for key in file.keys()}):
            probe = {what: file.get_tensor(f"{name}.{what}") for what in ("x", "gain", "bias", "dy")}
            if use_torch:
                answers = answer_torch(NORMS[args.norm], probe, eps, args.device)
            else:
                answers = {"y": NORMS[args.norm](probe["x"], probe["gain"], probe["bias"], eps)}
            out.update({f"{name}.{what}": tensor for what, tensor in {**probe, **answers}.items()})
    framework = f"PyTorch {torch.__version__} ({args.device})" if use_torch else f"NumPy {np.__version__}"
    metadata = {"normative.kernel": json.dumps({"eps": eps, "framework": f"{framework}, {args.norm}"})}
    if use_torch:
        from safetensors.torch import save_file
    else:
        from safetensors.numpy import save_file
    save_file(out, args.answers, metadata)


main()
