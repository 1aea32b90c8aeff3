"""kernels.c as PyTorch functions with gradients."""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import torch
from torch.autograd import Function


def build():
    source = Path(__file__).with_name("kernels.c")
    library = Path(tempfile.mkdtemp()) / "kernels.so"
    subprocess.run(["gcc", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp",
                    "-shared", "-fPIC", "-o", library, source, "-lmvec", "-lm"], check=True)
    return ctypes.CDLL(str(library))


LIBRARY = build()


def call(name, *arguments):
    def convert(a):
        if isinstance(a, torch.Tensor):
            assert a.is_contiguous()
            return ctypes.c_void_p(a.data_ptr())
        return ctypes.c_long(a) if isinstance(a, int) else ctypes.c_float(a)

    getattr(LIBRARY, name)(*map(convert, arguments))


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
    """Mean loss times `weight`; also the loss and the argmax of every row. Overwrites the logits."""

    @staticmethod
    def forward(ctx, logits, target, weight):
        rows = logits.shape[0]
        loss, best = torch.empty(rows), torch.empty(rows, dtype=torch.int64)
        call("cross_entropy", *logits.shape, logits, target.contiguous(), weight / rows, loss, best)
        ctx.save_for_backward(logits)
        ctx.mark_non_differentiable(loss, best)
        return loss.mean() * weight, loss, best

    @staticmethod
    def backward(ctx, dtotal, dloss, dbest):
        return ctx.saved_tensors[0], None, None


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


def adamw(parameter, gradient, state, step, lr, betas=(0.9, 0.95), eps=1e-8, decay=0.0):
    call("adamw", parameter.numel(), parameter.data, gradient.contiguous(), state["m"], state["v"], lr, betas[0], betas[1],
         eps, decay, 1 - betas[0] ** step, 1 - betas[1] ** step)
