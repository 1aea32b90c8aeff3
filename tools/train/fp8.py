"""F8_E4M3 (the "fn" variant: bias 7, largest 448, no infinities) by table: PyTorch 1.13 has no such type."""

import torch

BLOCK = 128
LARGEST = 448.0


def values():
    """The value of codes 0..126, ascending."""
    codes = torch.arange(127)
    exponent, mantissa = codes >> 3, (codes & 7).double()
    normal = (1 + mantissa / 8) * 2.0 ** (exponent - 7).double()
    return torch.where(exponent == 0, mantissa * 2.0**-9, normal).float()


VALUES = values()
MIDDLES = (VALUES[1:] + VALUES[:-1]) / 2


def encode(x):
    """Round to nearest even, saturating. A tie lies between an even and an odd code: the even one is taken."""
    magnitude = x.abs().contiguous()
    low = torch.bucketize(magnitude, MIDDLES)  # a tie goes down
    high = torch.bucketize(magnitude, MIDDLES, right=True)  # a tie goes up
    codes = torch.where(low % 2 == 0, low, high)
    return (codes + 128 * torch.signbit(x)).to(torch.uint8)


def decode(codes):
    table = torch.cat([VALUES, torch.tensor([float("nan")])])
    return torch.cat([table, -table])[codes.long()]


def expand(scales, shape):
    return scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[: shape[0], : shape[1]]


def quantize_blocks(weight):
    """weight [out, in] -> codes, and scales [ceil(out / 128), ceil(in / 128)] with value = code * scale."""
    rows, columns = (-(-size // BLOCK) for size in weight.shape)
    padded = torch.zeros(rows * BLOCK, columns * BLOCK)
    padded[: weight.shape[0], : weight.shape[1]] = weight
    amax = padded.view(rows, BLOCK, columns, BLOCK).abs().amax((1, 3))
    scales = amax.clamp(min=1e-12) / LARGEST
    return encode(weight / expand(scales, weight.shape)), scales


def dequantize_blocks(codes, scales):
    return decode(codes) * expand(scales, codes.shape)


def quantize_rows(x):
    """What an FP8 linear sees of its input: per row and 128 channels, amax >= 1e-4, scale = amax / 448."""
    parts = []
    for part in x.split(BLOCK, dim=-1):
        scale = part.abs().amax(-1, keepdim=True).clamp(min=1e-4) / LARGEST
        parts.append(decode(encode(part / scale)) * scale)
    return torch.cat(parts, dim=-1)
