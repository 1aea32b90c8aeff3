"""Measures an exported checkpoint: held-out bits per byte, and greedy acceptance of its MTP module at depth 1.

    python3 evaluate.py MODEL_DIR [--fp8-activations] [--domain NAME] [--prompts N] [--samples]

An implementation of its own, in float32 on the dequantized weights, so it also checks the export. Held-out text is
MODEL_DIR/heldout/*.jsonl, the prompts are MODEL_DIR/prompts.jsonl.
"""

import argparse
import json
import math
import struct
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F

from fp8 import dequantize_blocks, quantize_rows
from tokenizer import Tokenizer

BOS, EOS = 0, 1
WINDOW = 1024
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F8_E4M3": torch.uint8}


def read_safetensors(path):
    data = bytearray(path.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            raw = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[entry["dtype"]])
            yield name, raw.view(entry["shape"])


def read_checkpoint(folder):
    raw = {}
    for shard in set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].values()):
        raw.update(read_safetensors(folder / shard))
    weights = {}
    for name, tensor in raw.items():
        if tensor.dtype == torch.uint8:
            weights[name] = dequantize_blocks(tensor, raw[name + "_scale_inv"])
        elif not name.endswith("_scale_inv"):
            weights[name] = tensor.float()
    return weights


class Cache(list):
    """Per layer the expanded keys and values and the rotated keys of the positions so far."""

    def extend_layer(self, n, kv, k_pe):
        if n == len(self):
            self.append((kv, k_pe))
        else:
            self[n] = tuple(torch.cat(pair) for pair in zip(self[n], (kv, k_pe)))
        return self[n]


class Network:
    def __init__(self, folder, fp8_activations=False):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = read_checkpoint(folder)
        self.quantize = quantize_rows if fp8_activations else lambda x: x
        rope = self.config["qk_rope_head_dim"]
        self.frequencies = self.config["rope_theta"] ** (-torch.arange(0, rope, 2).double() / rope)

    def norm(self, name, x):
        return x * (x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"]).rsqrt() * self.weights[name + ".weight"]

    def linear(self, name, x):
        return self.quantize(x) @ self.weights[name + ".weight"].t()

    def rotate(self, x, start):
        turns = torch.arange(start, start + x.shape[0]).double()[:, None, None] * self.frequencies
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(turns), turns).to(pairs.dtype)).flatten(-2)

    def attention(self, name, x, n, cache):
        c = self.config
        heads, nope, rope, value = (c[k] for k in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
        start = cache[n][0].shape[0] if n < len(cache) else 0
        q = self.linear(name + ".q_b_proj", self.norm(name + ".q_a_layernorm", self.linear(name + ".q_a_proj", x)))
        q = q.view(-1, heads, nope + rope)
        ckv, k_pe = self.linear(name + ".kv_a_proj_with_mqa", x).split([c["kv_lora_rank"], rope], dim=1)
        kv = self.norm(name + ".kv_a_layernorm", ckv) @ self.weights[name + ".kv_b_proj.weight"].t()
        kv, k_pe = cache.extend_layer(n, kv.view(-1, heads, nope + value), self.rotate(k_pe[:, None], start)[:, 0])
        scores = torch.einsum("qhd,khd->hqk", q[..., :nope], kv[..., :nope])
        scores += torch.einsum("qhd,kd->hqk", self.rotate(q[..., nope:], start), k_pe)
        future = torch.ones(scores.shape[1:], dtype=torch.bool).triu(start + 1)
        p = (scores * (nope + rope) ** -0.5).masked_fill(future, -math.inf).softmax(-1)
        return self.linear(name + ".o_proj", torch.einsum("hqk,khd->qhd", p, kv[..., nope:]).flatten(1))

    def mlp(self, name, x):
        return self.linear(name + ".down_proj", F.silu(self.linear(name + ".gate_proj", x)) * self.linear(name + ".up_proj", x))

    def moe(self, name, x):
        c = self.config
        scores = torch.sigmoid(x @ self.weights[name + ".gate.weight"].t())
        biased = (scores + self.weights[name + ".gate.e_score_correction_bias"]).view(len(x), c["n_group"], -1)
        groups = biased.topk(2)[0].sum(-1).topk(c["topk_group"])[1]
        kept = torch.zeros(biased.shape[:2], dtype=torch.bool).scatter_(1, groups, True)
        chosen = biased.masked_fill(~kept[..., None], -math.inf).flatten(1).topk(c["num_experts_per_tok"])[1]
        weights = scores.gather(1, chosen)
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * c["routed_scaling_factor"]
        y = self.mlp(name + ".shared_experts", x)
        for expert in chosen.unique().tolist():
            rows, slot = (chosen == expert).nonzero(as_tuple=True)
            y[rows] += weights[rows, slot, None] * self.mlp(f"{name}.experts.{expert}", x[rows])
        return y

    def layer(self, n, x, position, cache):
        name = f"model.layers.{n}"
        x = x + self.attention(name + ".self_attn", self.norm(name + ".input_layernorm", x), position, cache)
        dense = n < self.config["first_k_dense_replace"]
        return x + (self.mlp if dense else self.moe)(name + ".mlp", self.norm(name + ".post_attention_layernorm", x))

    def embed(self, ids):
        return self.weights["model.embed_tokens.weight"][torch.tensor(ids)]

    def main(self, ids, cache):
        x = self.embed(ids)
        for n in range(self.config["num_hidden_layers"]):
            x = self.layer(n, x, n, cache)
        return self.norm("model.norm", x)

    def draft(self, h, following):
        n = self.config["num_hidden_layers"]
        name = f"model.layers.{n}"
        x = torch.cat([self.norm(name + ".enorm", self.embed(following)), self.norm(name + ".hnorm", h)], dim=1)
        x = self.layer(n, x @ self.weights[name + ".eh_proj.weight"].t(), 0, Cache())
        return self.norm(name + ".shared_head.norm", x)

    def logits(self, h):
        return h @ self.weights["lm_head.weight"].t()


def generate(network, ids, count):
    """Greedy tokens, and the hidden states of every position but the last."""
    cache, ids, states = Cache(), list(ids), []
    fresh = ids
    for _ in range(count):
        states.append(network.main(fresh, cache))
        ids.append(int(network.logits(states[-1][-1]).argmax()))
        fresh = ids[-1:]
        if ids[-1] == EOS:
            break
    return ids, torch.cat(states)


def acceptance(network, ids, states, prompt):
    """Replays speculative decoding on the greedy text: (drafts accepted, drafts made)."""
    following = ids[1:]
    drafts = network.logits(network.draft(states, following)).argmax(-1).tolist()  # row i guesses token i + 2
    at, accepted, made = prompt + 1, 0, 0  # the token at `prompt` came from the prompt's own pass
    while at < len(ids):
        made += 1
        hit = drafts[at - 2] == ids[at]
        accepted += hit
        at += 1 + hit
    return accepted, made


def bits_per_byte(network, tokenizer, text):
    """Windows of WINDOW tokens, each after its own bos."""
    ids, bits = tokenizer.encode(text), 0.0
    for begin in range(0, len(ids), WINDOW):
        window = ids[begin : begin + WINDOW]
        logits = network.logits(network.main([BOS, *window[:-1]], Cache()))
        bits += float(F.cross_entropy(logits, torch.tensor(window), reduction="sum")) / math.log(2)
    return bits / len(text.encode())


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--fp8-activations", action="store_true", help="quantize the input of every FP8 linear, as the format says")
    parser.add_argument("--domain", help="only this one")
    parser.add_argument("--prompts", type=int, default=10**6, help="of each domain, at most")
    parser.add_argument("--samples", action="store_true", help="print what is generated")
    options = parser.parse_args()

    network, tokenizer = Network(options.model, options.fp8_activations), Tokenizer(options.model / "tokenizer.json")
    for path in sorted((options.model / "heldout").glob(f"{options.domain or '*'}.jsonl")):
        texts = [line["text"] for line in lines(path)]
        sizes = [len(text.encode()) for text in texts]
        bits = sum(bits_per_byte(network, tokenizer, text) * size for text, size in zip(texts, sizes))
        print(f"{path.stem}: {bits / sum(sizes):.3f} bits per byte", flush=True)

    totals, seen = defaultdict(lambda: [0, 0]), defaultdict(int)
    for prompt in lines(options.model / "prompts.jsonl"):
        seen[prompt["domain"]] += 1
        if seen[prompt["domain"]] > options.prompts or options.domain not in (None, prompt["domain"]):
            continue
        start = [BOS, *tokenizer.encode(prompt["prompt"])]
        ids, states = generate(network, start, prompt["max_tokens"])
        for key in (prompt["domain"], "overall"):
            totals[key] = [a + b for a, b in zip(totals[key], acceptance(network, ids, states, len(start)))]
        if options.samples:
            print(f"--- {prompt['id']}\n{prompt['prompt']}>>>{tokenizer.decode(ids[len(start):])}", flush=True)
    for key, (accepted, made) in totals.items():
        print(f"{key}: acceptance {accepted / made:.3f} ({accepted} of {made})")


if __name__ == "__main__":
    main()
