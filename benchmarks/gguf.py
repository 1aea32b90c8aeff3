#!/usr/bin/env python3
"""Writes a BF16 checkpoint of this family as GGUF for llama.cpp, its MTP module included (llama.cpp's own converter leaves the module
of a DeepSeek-V3 out).

    python3 benchmarks/gguf.py [--no-mtp] BF16_DIR OUT.gguf

BF16_DIR is what `forerun quantize --to bf16` wrote of a checkpoint that `forerun synth` made. Matrices stay BF16 (llama-quantize makes
Q8_0 of them), vectors and routers become F32. Its tokens have made-up names: text is of no use, lists of tokens are.
GGUF: github.com/ggml-org/ggml/blob/master/docs/gguf.md; names and keys as llama.cpp's "deepseek2" reads them.
"""
import struct
import sys

from safetensors import Checkpoint

ALIGNMENT = 32
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5  # of values
F32, BF16 = 0, 30  # of tensors
SIGMOID = 2

# Of a layer: checkpoint's name, GGUF's. Those of one expert and kv_b_proj are put together or taken apart below.
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "eh_proj": "nextn.eh_proj",
    "enorm": "nextn.enorm",
    "hnorm": "nextn.hnorm",
    "shared_head.norm": "nextn.shared_head_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def to_f32(dtype, data):
    if dtype == "F32":
        return bytes(data)
    out = bytearray(2 * len(data))
    out[2::4], out[3::4] = data[0::2], data[1::2]
    return out


def split_kv_b(config, data):
    """k_b [heads, kv_lora_rank, qk_nope_head_dim], transposed by head, and v_b [heads, v_head_dim, kv_lora_rank]."""
    heads, rank = config["num_attention_heads"], config["kv_lora_rank"]
    nope, value = config["qk_nope_head_dim"], config["v_head_dim"]
    rows = data.cast("H")
    k_b, v_b = [], []
    for head in range(heads):
        begin = head * (nope + value) * rank
        k_b += [rows[begin + column : begin + nope * rank : rank].tobytes() for column in range(rank)]
        v_b.append(rows[begin + nope * rank : begin + (nope + value) * rank].tobytes())
    return ([heads, rank, nope], k_b), ([heads, value, rank], v_b)


def tensors_of(checkpoint):
    """Yields (name, shape, type, pieces of bytes)."""
    config, tensors = checkpoint.config, checkpoint.tensors

    def plain(name, out):
        dtype, shape, data = tensors[name]
        if len(shape) == 1 or out.endswith("ffn_gate_inp.weight"):
            return out, shape, F32, [to_f32(dtype, data)]
        return out, shape, BF16, [checkpoint.bf16(name)[1]]

    for name, out in WHOLE.items():
        if f"{name}.weight" in tensors:
            yield plain(f"{name}.weight", f"{out}.weight")
    for layer in range(config["num_hidden_layers"] + config.get("num_nextn_predict_layers", 0)):
        inside, outside = f"model.layers.{layer}.", f"blk.{layer}."
        for name, out in LAYER.items():
            if f"{inside}{name}.weight" in tensors:
                yield plain(f"{inside}{name}.weight", f"{outside}{out}.weight")
        if f"{inside}mlp.gate.e_score_correction_bias" in tensors:
            yield plain(f"{inside}mlp.gate.e_score_correction_bias", f"{outside}exp_probs_b.bias")
        for (shape, pieces), out in zip(split_kv_b(config, checkpoint.bf16(f"{inside}self_attn.kv_b_proj.weight")[1]), "kv"):
            yield f"{outside}attn_{out}_b.weight", shape, BF16, pieces
        if f"{inside}mlp.experts.0.up_proj.weight" in tensors:
            for kind in ("gate", "up", "down"):
                experts = [checkpoint.bf16(f"{inside}mlp.experts.{e}.{kind}_proj.weight") for e in range(config["n_routed_experts"])]
                yield f"{outside}ffn_{kind}_exps.weight", [len(experts), *experts[0][0]], BF16, [data for _, data in experts]


def token_names(size):
    """Two control tokens, the 256 bytes as GPT-2 writes them, and names that no text contains."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return ["<begin>", "<end>", *(letters[byte] for byte in range(256)), *(f"<{i}>" for i in range(258, size))][:size]


def metadata_of(config):
    rope, nope = config["qk_rope_head_dim"], config["qk_nope_head_dim"]
    modules = config.get("num_nextn_predict_layers", 0)
    numbers = {
        "vocab_size": config["vocab_size"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"] + modules,
        "nextn_predict_layers": modules,
        "leading_dense_block_count": config["first_k_dense_replace"],
        "feed_forward_length": config["intermediate_size"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_count": config["n_routed_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_shared_count": config["n_shared_experts"],
        "expert_group_count": config["n_group"],
        "expert_group_used_count": config["topk_group"],
        "expert_gating_func": SIGMOID,
        "expert_weights_scale": float(config["routed_scaling_factor"]),
        "expert_weights_norm": config["norm_topk_prob"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": 1,  # attention over the latent is of one group
        "attention.q_lora_rank": config["q_lora_rank"],
        "attention.kv_lora_rank": config["kv_lora_rank"],
        "attention.key_length": config["kv_lora_rank"] + rope,
        "attention.value_length": config["kv_lora_rank"],
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": config["v_head_dim"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.dimension_count": rope,
        "rope.freq_base": float(config["rope_theta"]),
    }
    names = token_names(config["vocab_size"])
    yield "general.architecture", STRING, "deepseek2"
    yield "general.alignment", UINT32, ALIGNMENT
    for key, value in numbers.items():
        yield f"deepseek2.{key}", {bool: BOOL, int: UINT32, float: FLOAT32}[type(value)], value
    yield "tokenizer.ggml.model", STRING, "gpt2"
    yield "tokenizer.ggml.pre", STRING, "gpt-2"
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, names)
    yield "tokenizer.ggml.token_type", ARRAY, (INT32, [3, 3, *[1] * (len(names) - 2)])  # control, normal
    yield "tokenizer.ggml.merges", ARRAY, (STRING, [f"{names[2]} {names[3]}"])
    yield "tokenizer.ggml.bos_token_id", UINT32, config["bos_token_id"]
    yield "tokenizer.ggml.eos_token_id", UINT32, config["eos_token_id"]


def packed(kind, value):
    if kind == STRING:
        text = value.encode()
        return struct.pack("<Q", len(text)) + text
    if kind == ARRAY:
        return struct.pack("<IQ", value[0], len(value[1])) + b"".join(packed(value[0], item) for item in value[1])
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--no-mtp"]
    if len(arguments) != 2:
        print(__doc__.strip())
        sys.exit(0 if arguments in (["-h"], ["--help"]) else 2)
    checkpoint = Checkpoint(arguments[0])
    if len(arguments) < len(sys.argv) - 1:
        checkpoint.config["num_nextn_predict_layers"] = 0
    tensors, metadata = list(tensors_of(checkpoint)), list(metadata_of(checkpoint.config))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    header += b"".join(packed(STRING, key) + struct.pack("<I", kind) + packed(kind, value) for key, kind, value in metadata)
    offset = 0
    for name, shape, kind, pieces in tensors:
        dims = shape[::-1]
        header += packed(STRING, name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        offset += -(-sum(map(len, pieces)) // ALIGNMENT) * ALIGNMENT
    with open(arguments[1], "wb") as out:
        out.write(header + bytes(-len(header) % ALIGNMENT))
        for _, _, _, pieces in tensors:
            for piece in pieces:
                out.write(piece)
            out.write(bytes(-out.tell() % ALIGNMENT))


main()
