#!/usr/bin/env python3
"""Gives a checkpoint with random weights a text that its MTP module guesses 85 % of, by its own weights.

    python3 benchmarks/predictable.py MODEL_DIR

Embedding, LM head and the MTP module's eh_proj are written anew (MODEL_DIR is one of `forerun synth --no-mtp-copies`); all other
weights stay random and all are read and multiplied as before, so that an engine's speed is that of any network of this shape.

- A token's embedding is a random row of signs, 16 times as large as what the layers add to it. The head's row of a token is the
  signs of the token before it, on one random circle through the vocabulary. So greedy text walks along that circle.
- eh_proj passes the token's embedding on and leaves the hidden state out, so that the module guesses the same circle. It adds the
  signs of one token, WRONG, times the sum of 15 of the token's own signs over 4. A sum of 5 and more, which 15.1 % of tokens have,
  makes the guess the successor of WRONG. The nearest sums, 3 and 5, are far from 4: rounding decides nothing, and an engine that
  computes in another precision accepts the same drafts.

A draft after a right one is right with the same chance. Tokens follow each other at random, so that experts do so, too.
"""
import random
import sys

from safetensors import Checkpoint

SIZE = 16  # of an embedding's entries
COUNTED = 15  # signs: 5 and more with a chance of 0.1509
ONE, SIXTEEN, FOUR = 0x3F80, 0x4180, 0x4080  # in BF16
EOS = 2  # the tokens before it (bos, eos) are not part of the circle


def bf16_signs(signs, magnitude):
    """signs: bytes of 0 or 128. The row as little-endian BF16."""
    row = bytearray(2 * len(signs))
    row[0::2] = bytes([magnitude & 0xFF]) * len(signs)
    row[1::2] = signs.translate(bytes((magnitude >> 8) | (value & 0x80) for value in range(256)))
    return row


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    checkpoint = Checkpoint(sys.argv[1], writable=True)
    (vocabulary, hidden), embedding = checkpoint.bf16("model.embed_tokens.weight")
    _, head = checkpoint.bf16("lm_head.weight")
    module = f"model.layers.{checkpoint.config['num_hidden_layers']}"
    _, eh_proj = checkpoint.bf16(f"{module}.eh_proj.weight")
    if f"{module}.embed_tokens.weight" in checkpoint.tensors:
        raise SystemExit("the MTP module has copies of embedding and head: make the checkpoint with --no-mtp-copies")
    source = random.Random(0)
    bits = bytes(value & 0x80 for value in range(256))
    signs = [source.randbytes(hidden).translate(bits) for _ in range(vocabulary)]
    for token in range(vocabulary):
        embedding[2 * hidden * token : 2 * hidden * (token + 1)] = bf16_signs(signs[token], SIXTEEN)
    circle = list(range(EOS, vocabulary))
    source.shuffle(circle)
    for token in range(EOS):
        head[2 * hidden * token : 2 * hidden * (token + 1)] = bytes(2 * hidden)
    for i, token in enumerate(circle):
        head[2 * hidden * token : 2 * hidden * (token + 1)] = bf16_signs(signs[circle[i - 1]], ONE)
    wrong = signs[circle[0]]
    for i in range(hidden):  # row i: 16 at i, 4 times the sign of WRONG at the counted ones
        row = bytearray(4 * hidden)
        row[: 2 * COUNTED] = bf16_signs(wrong[i : i + 1] * COUNTED, FOUR)
        if i >= COUNTED:
            row[2 * i : 2 * i + 2] = SIXTEEN.to_bytes(2, "little")
        else:  # 16 and 4 in one place
            row[2 * i : 2 * i + 2] = (0x4140 if wrong[i] else 0x41A0).to_bytes(2, "little")
        eh_proj[4 * hidden * i : 4 * hidden * (i + 1)] = row
    guessed = sum(sum(-1 if s else 1 for s in signs[token][:COUNTED]) < 5 for token in circle) / len(circle)
    print(f"the MTP module guesses {100 * guessed:.1f} % of the circle")


main()
