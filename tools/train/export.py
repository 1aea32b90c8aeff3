"""Writes a training checkpoint as a DeepSeek-V3 Hugging Face directory.

    python3 export.py RUN/checkpoint.pt MODEL_DIR

Linears become F8_E4M3 with one F32 scale per 128x128 block; embeddings, head, norms, router and eh_proj BF16;
e_score_correction_bias F32. The MTP module shares the main model's embedding and head, so they are not repeated.
The tokenizer in MODEL_DIR is tokenizer.py's.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch

from fp8 import dequantize_blocks, quantize_blocks
from model import CONFIG

SHARDS = 2


def checkpoint_tensors(saved):
    """The training model's parameters under the checkpoint's names, experts and gate/up taken apart."""
    depth = 1 + max(int(name.split(".")[1]) for name in saved if name.startswith("layers."))
    for name, tensor in saved.items():
        if name.startswith("mtp.layer."):
            name = f"layers.{depth}." + name[len("mtp.layer.") :]
        elif name == "mtp.norm.weight":
            name = f"layers.{depth}.shared_head.norm.weight"
        elif name.startswith("mtp."):
            name = f"layers.{depth}." + name[len("mtp.") :]
        if name == "lm_head":
            yield "lm_head.weight", tensor
        elif name == "embed_tokens":
            yield "model.embed_tokens.weight", tensor
        elif name.endswith("mlp.gate"):
            yield f"model.{name}.weight", tensor
        elif name.endswith("e_score_correction_bias"):
            yield f"model.{name.replace('mlp.', 'mlp.gate.')}", tensor
        elif tensor.dim() == 3:
            stem, kind = name.rsplit(".", 1)
            for expert, weight in enumerate(tensor):
                yield from split_gate_up(f"model.{stem}.experts.{expert}.{kind}", weight)
        else:
            yield from split_gate_up(f"model.{name}".removesuffix(".weight"), tensor)


def split_gate_up(stem, weight):
    if stem.endswith("gate_up_proj"):
        gate, up = weight.chunk(2)
        yield stem.replace("gate_up_proj", "gate_proj") + ".weight", gate
        yield stem.replace("gate_up_proj", "up_proj") + ".weight", up
    else:
        yield stem + ".weight", weight


def stored(name, tensor):
    """(name, dtype, shape, bytes) of everything that this tensor becomes in the file."""
    if name.endswith("e_score_correction_bias"):
        yield name, "F32", tensor.shape, tensor.numpy().astype("<f4").tobytes()
    elif name.endswith("proj.weight") and "eh_proj" not in name:
        codes, scales = quantize_blocks(tensor)
        yield name, "F8_E4M3", tensor.shape, codes.numpy().tobytes()
        yield name + "_scale_inv", "F32", scales.shape, scales.numpy().astype("<f4").tobytes()
    else:
        yield name, "BF16", tensor.shape, tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()


def write_safetensors(path, entries):
    """Widest type first, so that every tensor is aligned to its own size; the header is padded to 8 bytes."""
    order = {"F32": 0, "BF16": 1, "F8_E4M3": 2}
    entries = sorted(entries, key=lambda entry: (order[entry[1]], entry[0]))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, data in entries:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for *_, data in entries:
            file.write(data)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    saved, out = torch.load(sys.argv[1], map_location="cpu")["model"], Path(sys.argv[2])
    tensors = dict(checkpoint_tensors(saved))
    entries = [entry for name, tensor in tensors.items() for entry in stored(name, tensor.detach())]
    total = sum(len(data) for *_, data in entries)

    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.safetensors"):
        old.unlink()
    shards, filled = [[] for _ in range(SHARDS)], 0
    for entry in entries:
        shards[min(SHARDS - 1, filled * SHARDS // total)].append(entry)
        filled += len(entry[3])
    weight_map = {}
    for n, shard in enumerate(shards, 1):
        file = f"model-{n:05}-of-{SHARDS:05}.safetensors"
        write_safetensors(out / file, shard)
        weight_map.update({entry[0]: file for entry in shard})
    write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})

    depth = max(int(name.split(".")[2]) for name in tensors if name.startswith("model.layers."))
    write_json(out / "config.json", {**CONFIG, "num_hidden_layers": depth})
    write_json(out / "generation_config.json",
               {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1, "do_sample": False})
    loss = [float((dequantize_blocks(*quantize_blocks(t)) - t).norm() / t.norm()) for n, t in tensors.items() if "down_proj" in n]
    print(f"{len(entries)} tensors, {total} bytes, relative error of the FP8 down_proj weights {np.mean(loss):.4f}")


if __name__ == "__main__":
    main()
