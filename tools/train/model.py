"""The DeepSeek-V3 network with its MTP module, for training on a CPU. Names are the checkpoint's.

Parameters are float32, activations bfloat16. Experts are stacked ([experts, out, in]) and gate_proj and up_proj are
joined into gate_up_proj; export.py takes them apart.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from kernels import Attention, Combine, CrossEntropy, Dispatch, RMSNorm, SwiGLU

CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "ep_size": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 192,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "kv_lora_rank": 64,
    "max_position_embeddings": 4096,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 96,
    "moe_layer_freq": 1,
    "n_group": 4,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 12,
    "num_key_value_heads": 4,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 96,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000,
    "routed_scaling_factor": 1.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 2,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1",
    "use_cache": True,
    "v_head_dim": 32,
    "vocab_size": 3072,
}
C = type("Config", (), CONFIG)


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return RMSNorm.apply(x, self.weight, C.rms_norm_eps)


class Linear(nn.Module):
    def __init__(self, inputs, outputs, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * scale * 0.6 / math.sqrt(inputs))

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


def rotate(x, angles):
    """Rotates the adjacent pairs of x [batch, t, heads, rope] by angles [t, rope / 2]."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * angles[:, None]).flatten(-2).to(x.dtype)


class SelfAttention(nn.Module):
    def __init__(self, residual_scale):
        super().__init__()
        heads, nope, rope, value = C.num_attention_heads, C.qk_nope_head_dim, C.qk_rope_head_dim, C.v_head_dim
        self.q_a_proj = Linear(C.hidden_size, C.q_lora_rank)
        self.q_a_layernorm = Norm(C.q_lora_rank)
        self.q_b_proj = Linear(C.q_lora_rank, heads * (nope + rope))
        self.kv_a_proj_with_mqa = Linear(C.hidden_size, C.kv_lora_rank + rope)
        self.kv_a_layernorm = Norm(C.kv_lora_rank)
        self.kv_b_proj = Linear(C.kv_lora_rank, heads * (nope + value))
        self.o_proj = Linear(heads * value, C.hidden_size, residual_scale)

    def forward(self, x, batch, angles):
        heads, nope, rope, value = C.num_attention_heads, C.qk_nope_head_dim, C.qk_rope_head_dim, C.v_head_dim
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).view(batch, -1, heads, nope + rope)
        ckv, k_pe = self.kv_a_proj_with_mqa(x).split([C.kv_lora_rank, rope], dim=1)
        kv = self.kv_b_proj(self.kv_a_layernorm(ckv)).view(batch, -1, heads, nope + value)
        k_pe = rotate(k_pe.reshape(batch, -1, 1, rope), angles).expand(-1, -1, heads, -1)
        q = torch.cat([q[..., :nope], rotate(q[..., nope:], angles)], dim=-1)
        k = torch.cat([kv[..., :nope], k_pe], dim=-1)
        q, k, v = (part.transpose(1, 2).flatten(0, 1).contiguous() for part in (q, k, kv[..., nope:]))
        o = Attention.apply(q, k, v, (nope + rope) ** -0.5)
        return self.o_proj(o.view(batch, heads, -1, value).transpose(1, 2).reshape(-1, heads * value))


class MLP(nn.Module):
    def __init__(self, width, residual_scale):
        super().__init__()
        self.gate_up_proj = Linear(C.hidden_size, 2 * width)
        self.down_proj = Linear(width, C.hidden_size, residual_scale)

    def forward(self, x):
        return self.down_proj(SwiGLU.apply(self.gate_up_proj(x), torch.ones(x.shape[0])))


class MoE(nn.Module):
    def __init__(self, residual_scale):
        super().__init__()
        experts, width = C.n_routed_experts, C.moe_intermediate_size
        self.gate = nn.Parameter(torch.randn(experts, C.hidden_size) / math.sqrt(C.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(experts))
        self.gate_up_proj = nn.Parameter(torch.randn(experts, 2 * width, C.hidden_size) * 0.6 / math.sqrt(C.hidden_size))
        self.down_proj = nn.Parameter(torch.randn(experts, C.hidden_size, width) * residual_scale * 0.6 / math.sqrt(width))
        self.shared_experts = MLP(C.n_shared_experts * width, residual_scale)
        self.load = None

    def route(self, x):
        scores = torch.sigmoid(F.linear(x.float(), self.gate))
        with torch.no_grad():  # biased scores only choose
            biased = (scores + self.e_score_correction_bias).view(x.shape[0], C.n_group, -1)
            groups = biased.topk(2, dim=-1)[0].sum(-1).topk(C.topk_group, dim=-1)[1]
            kept = torch.zeros(biased.shape[:2], dtype=torch.bool).scatter_(1, groups, True)
            chosen = biased.masked_fill(~kept[..., None], -math.inf).flatten(1).topk(C.num_experts_per_tok)[1]
        weights = scores.gather(1, chosen)
        return chosen, weights / (weights.sum(-1, keepdim=True) + 1e-20) * C.routed_scaling_factor

    def forward(self, x):
        """Every expert gets the same number of rows, so that all go through one batched product. The rows that pad the
        less busy ones are copies of token 0 with weight 0: they add nothing, forward or backward."""
        chosen, weights = self.route(x)
        experts, k = C.n_routed_experts, C.num_experts_per_tok
        chosen = chosen.flatten()
        order = chosen.argsort()
        self.load = chosen.bincount(minlength=experts)
        capacity = -(-int(self.load.max()) // 128) * 128
        shift = torch.arange(experts) * capacity - (self.load.cumsum(0) - self.load)
        slots = torch.empty_like(order)
        slots[order] = torch.arange(order.shape[0]) + shift[chosen[order]]
        source = torch.zeros(experts * capacity, dtype=torch.int64)
        source[slots] = torch.div(torch.arange(order.shape[0]), k, rounding_mode="floor")
        weights = torch.zeros(experts * capacity).scatter(0, slots, weights.flatten())

        rows = Dispatch.apply(x, source, slots, k).view(experts, capacity, -1)
        gate_up = torch.bmm(rows, self.gate_up_proj.to(x.dtype).transpose(1, 2))
        act = SwiGLU.apply(gate_up.flatten(0, 1), weights).view(experts, capacity, -1)
        down = torch.bmm(act, self.down_proj.to(x.dtype).transpose(1, 2))
        return Combine.apply(down.flatten(0, 1), source, slots, k) + self.shared_experts(x)


class Layer(nn.Module):
    def __init__(self, dense):
        super().__init__()
        residual_scale = 1 / math.sqrt(2 * C.num_hidden_layers)
        self.input_layernorm = Norm(C.hidden_size)
        self.self_attn = SelfAttention(residual_scale)
        self.post_attention_layernorm = Norm(C.hidden_size)
        self.mlp = MLP(C.intermediate_size, residual_scale) if dense else MoE(residual_scale)

    def forward(self, x, batch, angles):
        x = x + self.self_attn(self.input_layernorm(x), batch, angles)
        return x + self.mlp(self.post_attention_layernorm(x))


class MTP(nn.Module):
    def __init__(self):
        super().__init__()
        self.enorm = Norm(C.hidden_size)
        self.hnorm = Norm(C.hidden_size)
        self.eh_proj = Linear(2 * C.hidden_size, C.hidden_size)
        self.layer = Layer(dense=False)
        self.norm = Norm(C.hidden_size)  # shared_head.norm

    def forward(self, h, embedded, batch, angles):
        x = self.eh_proj(torch.cat([self.enorm(embedded), self.hnorm(h)], dim=1))
        return self.norm(self.layer(x, batch, angles))


class Model(nn.Module):
    def __init__(self, layers=C.num_hidden_layers):
        super().__init__()
        self.embed_tokens = nn.Parameter(torch.randn(C.vocab_size, C.hidden_size) * 0.1)
        self.layers = nn.ModuleList([Layer(n < C.first_k_dense_replace) for n in range(layers)])
        self.norm = Norm(C.hidden_size)
        self.lm_head = nn.Parameter(torch.randn(C.vocab_size, C.hidden_size) * 0.02)
        self.mtp = MTP()
        frequencies = C.rope_theta ** (-torch.arange(0, C.qk_rope_head_dim, 2).double() / C.qk_rope_head_dim)
        turns = torch.arange(C.max_position_embeddings).double()[:, None] * frequencies
        self.angles = torch.polar(torch.ones_like(turns), turns).to(torch.complex64)

    def moe_layers(self):
        return [layer.mlp for layer in [*self.layers, self.mtp.layer] if isinstance(layer.mlp, MoE)]

    def embed(self, ids):
        return F.embedding(ids.flatten(), self.embed_tokens).to(torch.bfloat16)

    def logits(self, h):
        return F.linear(h, self.lm_head.to(h.dtype))

    def main(self, ids):
        angles = self.angles[: ids.shape[1]]
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, ids.shape[0], angles)
        return self.norm(x)

    def draft(self, h, following):
        """h [rows, hidden] after model.norm; following [batch, t]: the token after each position."""
        return self.mtp(h, self.embed(following), following.shape[0], self.angles[: following.shape[1]])

    def losses(self, ids, mtp_weight):
        """ids [batch, t + 2]. Returns the loss, the per-token main and MTP losses, and where the MTP's choice is the
        main model's own next choice (its acceptance, given the true prefix)."""
        ids = ids.long()
        t = ids.shape[1] - 2
        h = self.main(ids[:, :t])
        total, main, best = CrossEntropy.apply(self.logits(h), ids[:, 1 : t + 1].flatten(), 1.0)
        h = self.draft(h, ids[:, 1 : t + 1])
        drafted, mtp, guess = CrossEntropy.apply(self.logits(h), ids[:, 2:].flatten(), mtp_weight)
        agree = best.view(-1, t)[:, 1:] == guess.view(-1, t)[:, :-1]
        return total + drafted, main.view(-1, t), mtp.view(-1, t), agree

    def distill(self, ids):
        """As losses, for the MTP module alone: it learns what the main model itself would choose, which is what
        decides whether a draft is accepted. The main model is not trained."""
        ids = ids.long()
        t = ids.shape[1] - 2
        with torch.no_grad():
            h = self.main(ids[:, :t])
            _, main, best = CrossEntropy.apply(self.logits(h), ids[:, 1 : t + 1].flatten(), 1.0)
        best = best.view(-1, t)
        target = torch.cat([best[:, 1:], ids[:, t + 1 :]], dim=1)  # nobody has judged the last draft: take the text
        h = self.draft(h, ids[:, 1 : t + 1])
        total, mtp, guess = CrossEntropy.apply(self.logits(h), target.flatten(), 1.0)
        return total, main.view(-1, t), mtp.view(-1, t), (target == guess.view(-1, t))[:, :-1]
