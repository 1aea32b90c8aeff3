"""The elementwise parts of the network, with gradients: on a CPU those of kernels.c, on a GPU PyTorch's own."""

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.autograd import Function

@functools.lru_cache(None)
def library():
    source = Path(__file__).with_name("kernels.c")
    library = Path(tempfile.mkdtemp()) / "kernels.so"
    subprocess.run(["gcc", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp",
                    "-shared", "-fPIC", "-o", library, source, "-lmvec", "-lm"], check=True)
    return ctypes.CDLL(str(library))


def call(name, *arguments):
    def convert(a):
        if isinstance(a, torch.Tensor):
            assert a.is_contiguous()
            return ctypes.c_void_p(a.data_ptr())
        return ctypes.c_long(a) if isinstance(a, int) else ctypes.c_float(a)

    getattr(library(), name)(*map(convert, arguments))


class RMSNorm(Function):
    @staticmethod
    def forward(ctx, x, w, eps):
        x = x.contiguous()
        y, rstd = torch.empty_like(x), torch.empty(x.shape[0])
        call("rmsnorm", *x.shape, x, w, eps, y, rstd)
        ctx.save_for_backward(x, w, rstd)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, w, rstd = ctx.saved_tensors
        dx, dw = torch.empty_like(x), torch.zeros_like(w)
        call("rmsnorm_backward", *x.shape, x, w, rstd, dy.contiguous(), dx, dw)
        return dx, dw, None


class SwiGLU(Function):
    """gu [rows, 2n] -> [rows, n], each row times its weight (the router's, or 1)."""

    @staticmethod
    def forward(ctx, gu, weight):
        rows, n = gu.shape[0], gu.shape[1] // 2
        y = gu.new_empty(rows, n)
        weight = weight.contiguous()
        call("swiglu", rows, n, gu, weight, y)
        ctx.save_for_backward(gu, weight)
        return y

    @staticmethod
    def backward(ctx, dy):
        gu, weight = ctx.saved_tensors
        dgu, dweight = torch.empty_like(gu), torch.empty_like(weight)
        call("swiglu_backward", *dy.shape, gu, weight, dy.contiguous(), dgu, dweight)
        return dgu, dweight


class Attention(Function):
    """Causal softmax(q k^T scale) v over [matrices, t, dim]."""

    @staticmethod
    def forward(ctx, q, k, v, scale):
        p = torch.bmm(q, k.transpose(1, 2))
        call("causal_softmax", p.shape[0], p.shape[1], scale, p)
        ctx.save_for_backward(q, k, v, p)
        ctx.scale = scale
        return torch.bmm(p, v)

    @staticmethod
    def backward(ctx, dy):
        q, k, v, p = ctx.saved_tensors
        dy = dy.contiguous()
        ds = torch.bmm(dy, v.transpose(1, 2))
        call("causal_softmax_backward", p.shape[0], p.shape[1], ctx.scale, p, ds)
        return torch.bmm(ds, k), torch.bmm(ds.transpose(1, 2), q), torch.bmm(p.transpose(1, 2), dy), None


class CrossEntropy(Function):
    """As cross_entropy below. Overwrites the logits."""

    @staticmethod
    def forward(ctx, logits, target, weight, row_weights):
        rows = logits.shape[0]
        loss, best = torch.empty(rows), torch.empty(rows, dtype=torch.int64)
        call("cross_entropy", *logits.shape, logits, target.contiguous(), weight / rows, loss, best)
        total = loss.mean()
        if row_weights is not None:
            logits.mul_(row_weights[:, None])
            total = (loss * row_weights).mean()
        ctx.save_for_backward(logits)
        ctx.mark_non_differentiable(loss, best)
        return total * weight, loss, best

    @staticmethod
    def backward(ctx, dtotal, dloss, dbest):
        return ctx.saved_tensors[0], None, None, None


def gather_sum(x, index, k):
    y = x.new_empty(index.shape[0] // k, x.shape[1])
    call("gather_sum", y.shape[0], k, y.shape[1], x.contiguous(), index, y)
    return y


class Dispatch(Function):
    """Row j of the result is token source[j]; slots[token * k + choice] says where a token's rows are."""

    @staticmethod
    def forward(ctx, x, source, slots, k):
        ctx.save_for_backward(slots)
        ctx.k = k
        return x.index_select(0, source)

    @staticmethod
    def backward(ctx, dy):
        return gather_sum(dy, ctx.saved_tensors[0], ctx.k), None, None, None


class Combine(Function):
    """The adjoint of Dispatch: sums the k rows of every token."""

    @staticmethod
    def forward(ctx, y, source, slots, k):
        ctx.save_for_backward(source)
        return gather_sum(y, slots, k)

    @staticmethod
    def backward(ctx, dx):
        return dx.index_select(0, ctx.saved_tensors[0]), None, None, None


def adamw(parameter, gradient, state, step, lr, betas=(0.9, 0.95), eps=1e-8):
    corrections = [1 - beta**step for beta in betas]
    if parameter.is_cuda:
        state["m"].lerp_(gradient, 1 - betas[0])
        state["v"].lerp_(gradient.square(), 1 - betas[1])
        spread = (state["v"] / corrections[1]).sqrt_().add_(eps)
        parameter.data.addcdiv_(state["m"], spread, value=-lr / corrections[0])
    else:
        call("adamw", parameter.numel(), parameter.data, gradient.contiguous(), state["m"], state["v"], lr, betas[0], betas[1],
             eps, 0.0, *corrections)


def rms_norm(x, w, eps):
    return F.rms_norm(x, w.shape, w.to(x.dtype), eps) if x.is_cuda else RMSNorm.apply(x, w, eps)


def gated(gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def swiglu(gate_up):
    return gated(gate_up) if gate_up.is_cuda else SwiGLU.apply(gate_up, torch.ones(gate_up.shape[0]))


def rotate(x, cosines, sines):
    """Rotates the adjacent pairs of x [rows, heads, rope] by angles whose cosines and sines [rows, rope / 2] are given."""
    pairs = x.float().unflatten(-1, (-1, 2))
    a, b = pairs[..., 0], pairs[..., 1]
    c, s = cosines[:, None], sines[:, None]
    return torch.stack([a * c - b * s, a * s + b * c], dim=-1).flatten(-2).to(x.dtype)


def attention(q, k, v, scale):
    """Causal, over [batch, heads, t, dim]; the values may have fewer channels."""
    if q.is_cuda:
        padded = F.pad(v, (0, k.shape[-1] - v.shape[-1]))  # the fast kernels want one width
        return F.scaled_dot_product_attention(q, k, padded, is_causal=True, scale=scale)[..., : v.shape[-1]]
    return Attention.apply(*(part.flatten(0, 1).contiguous() for part in (q, k, v)), scale).unflatten(0, q.shape[:2])


def cross_entropy(logits, target, weight, rows=None):
    """The mean loss times `weight`, each row times its own where `rows` has one; the loss and the argmax of every row."""
    if not logits.is_cuda:
        return CrossEntropy.apply(logits, target, weight, rows)
    loss = F.cross_entropy(logits.float(), target, reduction="none")
    total = (loss if rows is None else loss * rows).mean() * weight
    return total, loss.detach(), logits.detach().argmax(-1)
