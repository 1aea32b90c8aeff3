"""The DeepSeek-V3 network with its MTP module, for training. Names are the checkpoint's.

Parameters are float32, activations bfloat16. Experts are stacked ([experts, out, in]) and gate_proj and up_proj are
joined into gate_up_proj; export.py takes them apart.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from kernels import Combine, Dispatch, SwiGLU, attention, cross_entropy, gated, rms_norm, rotate, swiglu

CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "ep_size": 1,
    "first_k_dense_replace": 4,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 1408,
    "kv_lora_rank": 64,
    "max_position_embeddings": 4096,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 128,
    "moe_layer_freq": 1,
    "n_group": 4,
    "n_routed_experts": 8,
    "n_shared_experts": 3,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 10,
    "num_key_value_heads": 4,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 128,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
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
    "vocab_size": 1536,
}
C = type("Config", (), CONFIG)
OFF_GREEDY = 0.25  # weight of a draft that greedy text has no use for


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return rms_norm(x, self.weight, C.rms_norm_eps)


class Linear(nn.Module):
    def __init__(self, inputs, outputs, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * scale * 0.6 / math.sqrt(inputs))

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


def top(scores, count):
    """A mask of the `count` largest along the last dimension. (A topk of a million short rows is slow on a GPU.)"""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for _ in range(count):
        mask = mask.scatter(-1, scores.masked_fill(mask, -math.inf).argmax(-1, keepdim=True), True)
    return mask


def choose(logits, bias):
    """Router logits [rows, experts] -> which are chosen, and the weight of each, zero where it is not."""
    scores = torch.sigmoid(logits)
    with torch.no_grad():  # biased scores only choose
        biased = (scores + bias).unflatten(-1, (C.n_group, -1))
        kept = top(biased.masked_fill(~top(biased, 2), 0).sum(-1), C.topk_group)
        chosen = top(biased.masked_fill(~kept[..., None], -math.inf).flatten(1), C.num_experts_per_tok)
    weights = scores * chosen
    return chosen, weights / (weights.sum(-1, keepdim=True) + 1e-20) * C.routed_scaling_factor


def chained_mask(t, depth, device):
    """What draft `depth` (1, 2, ..) after each position sees: its own key, behind it one of each earlier draft of its chain, and of
    the positions before those the keys of first drafts, which are made of true hidden states. The keys of each depth follow
    one another."""
    position = torch.arange(t, device=device)
    back = position[:, None] - position
    parts = [back >= depth - 1, *(back == depth - 1 - n for n in range(1, depth))]
    return torch.cat(parts, dim=1)


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

    def forward(self, x, batch, angles, chain=None):
        """`chain` has the keys and values of a chained draft's earlier drafts; this one's are added."""
        heads, nope, rope, value = C.num_attention_heads, C.qk_nope_head_dim, C.qk_rope_head_dim, C.v_head_dim
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).view(-1, heads, nope + rope)
        ckv, k_pe = self.kv_a_proj_with_mqa(x).split([C.kv_lora_rank, rope], dim=1)
        kv = self.kv_b_proj(self.kv_a_layernorm(ckv.contiguous())).view(-1, heads, nope + value)
        k_pe = rotate(k_pe.reshape(-1, 1, rope), *angles).expand(-1, heads, -1)
        q = torch.cat([q[..., :nope], rotate(q[..., nope:], *angles)], dim=-1)
        k = torch.cat([kv[..., :nope], k_pe], dim=-1)
        q, k, v = (part.unflatten(0, (batch, -1)).transpose(1, 2) for part in (q, k, kv[..., nope:]))
        scale = (nope + rope) ** -0.5
        if chain is not None:
            chain.append((k, v))
        if chain is None or len(chain) == 1:
            o = attention(q, k, v, scale)
        else:
            keys, values = (torch.cat(parts, dim=2) for parts in zip(*chain))
            hidden = ~chained_mask(q.shape[2], len(chain), x.device)
            o = (q @ keys.transpose(2, 3) * scale).masked_fill(hidden, -math.inf).softmax(-1) @ values
        return self.o_proj(o.transpose(1, 2).reshape(-1, heads * value))


class MLP(nn.Module):
    def __init__(self, width, residual_scale):
        super().__init__()
        self.gate_up_proj = Linear(C.hidden_size, 2 * width)
        self.down_proj = Linear(width, C.hidden_size, residual_scale)

    def forward(self, x):
        return self.down_proj(swiglu(self.gate_up_proj(x)))


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

    def forward(self, x):
        chosen, weights = choose(F.linear(x.float(), self.gate), self.e_score_correction_bias)
        self.load = chosen.sum(0)
        return (self.all(x, weights) if x.is_cuda else self.chosen(x, chosen, weights)) + self.shared_experts(x)

    def all(self, x, weights):
        """Every expert for every row: with so few and narrow ones, two large products are the fastest way."""
        experts, hidden = C.n_routed_experts, C.hidden_size
        gate_up = F.linear(x, self.gate_up_proj.flatten(0, 1).to(x.dtype)).unflatten(-1, (experts, -1))
        act = (gated(gate_up) * weights[..., None].to(x.dtype)).flatten(1)
        return F.linear(act, self.down_proj.transpose(0, 1).reshape(hidden, -1).to(x.dtype))

    def chosen(self, x, chosen, weights):
        """Every expert gets the same number of rows, so that all go through one batched product. The rows that pad the
        less busy ones are copies of token 0 with weight 0: they add nothing, forward or backward."""
        weights, chosen = weights[chosen], chosen.nonzero()[:, 1]
        experts, k = C.n_routed_experts, C.num_experts_per_tok
        order = chosen.argsort()
        capacity = -(-int(self.load.max()) // 128) * 128
        shift = torch.arange(experts) * capacity - (self.load.cumsum(0) - self.load)
        slots = torch.empty_like(order)
        slots[order] = torch.arange(order.shape[0]) + shift[chosen[order]]
        source = torch.zeros(experts * capacity, dtype=torch.int64)
        source[slots] = torch.div(torch.arange(order.shape[0]), k, rounding_mode="floor")
        weights = torch.zeros(experts * capacity).scatter(0, slots, weights)

        rows = Dispatch.apply(x, source, slots, k).view(experts, capacity, -1)
        gate_up = torch.bmm(rows, self.gate_up_proj.to(x.dtype).transpose(1, 2))
        act = SwiGLU.apply(gate_up.flatten(0, 1), weights).view(experts, capacity, -1)
        down = torch.bmm(act, self.down_proj.to(x.dtype).transpose(1, 2))
        return Combine.apply(down.flatten(0, 1), source, slots, k)


class Layer(nn.Module):
    def __init__(self, dense):
        super().__init__()
        residual_scale = 1 / math.sqrt(2 * C.num_hidden_layers)
        self.input_layernorm = Norm(C.hidden_size)
        self.self_attn = SelfAttention(residual_scale)
        self.post_attention_layernorm = Norm(C.hidden_size)
        self.mlp = MLP(C.intermediate_size, residual_scale) if dense else MoE(residual_scale)

    def forward(self, x, batch, angles, chain=None):
        x = x + self.self_attn(self.input_layernorm(x), batch, angles, chain)
        return x + self.mlp(self.post_attention_layernorm(x))


class MTP(nn.Module):
    def __init__(self):
        super().__init__()
        self.enorm = Norm(C.hidden_size)
        self.hnorm = Norm(C.hidden_size)
        self.eh_proj = Linear(2 * C.hidden_size, C.hidden_size)
        self.layer = Layer(dense=False)
        self.norm = Norm(C.hidden_size)  # shared_head.norm

    def forward(self, h, embedded, batch, angles, chain=None):
        x = self.eh_proj(torch.cat([self.enorm(embedded), self.hnorm(h)], dim=1))
        return self.norm(self.layer(x, batch, angles, chain))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Parameter(torch.randn(C.vocab_size, C.hidden_size) * 0.1)
        self.layers = nn.ModuleList([Layer(n < C.first_k_dense_replace) for n in range(C.num_hidden_layers)])
        self.norm = Norm(C.hidden_size)
        self.lm_head = nn.Parameter(torch.randn(C.vocab_size, C.hidden_size) * 0.02)
        self.mtp = MTP()
        frequencies = C.rope_theta ** (-torch.arange(0, C.qk_rope_head_dim, 2).double() / C.qk_rope_head_dim)
        turns = torch.arange(C.max_position_embeddings).double()[:, None] * frequencies
        self.register_buffer("cosines", turns.cos().float(), persistent=False)
        self.register_buffer("sines", turns.sin().float(), persistent=False)

    def moe_layers(self):
        return [layer.mlp for layer in [*self.layers, self.mtp.layer] if isinstance(layer.mlp, MoE)]

    def angles(self, ids):
        batch, t = ids.shape
        return self.cosines[:t].repeat(batch, 1), self.sines[:t].repeat(batch, 1)

    def embed(self, ids):
        return F.embedding(ids.flatten(), self.embed_tokens).to(torch.bfloat16)

    def logits(self, h):
        return F.linear(h, self.lm_head.to(h.dtype))

    def main(self, ids):
        x, angles = self.embed(ids), self.angles(ids)
        for layer in self.layers:
            x = layer(x, ids.shape[0], angles)
        return self.norm(x)

    def draft(self, h, following, chain=None):
        """h [rows, hidden] after model.norm; following [batch, t]: the token after each position."""
        return self.mtp(h, self.embed(following), following.shape[0], self.angles(following), chain)

    def losses(self, ids, mtp_weight):
        """ids [batch, t + 2]. Returns the loss, the per-token main and MTP losses, and where the MTP's choice is the
        main model's own next choice (its acceptance, given the true prefix)."""
        ids = ids.long()
        t = ids.shape[1] - 2
        h = self.main(ids[:, :t])
        total, main, best = cross_entropy(self.logits(h), ids[:, 1 : t + 1].flatten(), 1.0)
        h = self.draft(h, ids[:, 1 : t + 1])
        drafted, mtp, guess = cross_entropy(self.logits(h), ids[:, 2:].flatten(), mtp_weight)
        agree = best.view(-1, t)[:, 1:] == guess.view(-1, t)[:, :-1]
        return total + drafted, main.view(-1, t), mtp.view(-1, t), agree

    def distill(self, ids, depth):
        """As losses, for the MTP module alone: it learns what the main model itself would choose, which is what
        decides whether a draft is accepted. The main model is not trained. Drafts are chained `depth` deep, each made
        of the output of the one before it, and each has to make the same choice as the first draft of its position.
        Drafts made of tokens that the main model would not have chosen, which greedy text never has, weigh less; `agree`
        has for each depth the share of the others that are right."""
        ids = ids.long()
        t = ids.shape[1] - 2
        following = ids[:, 1 : t + 1]
        with torch.no_grad():
            h = self.main(ids[:, :t])
            _, main, best = cross_entropy(self.logits(h), following.flatten(), 1.0)
        best = best.view(-1, t)
        target = torch.cat([best[:, 1:], ids[:, t + 1 :]], dim=1)  # nobody has judged the last draft: take the text
        chosen = greedy = following == best
        total, losses, agree, chain = 0, [], [], []
        for _ in range(depth):
            h = self.draft(h, following, chain)
            rows = torch.where(greedy, 1.0, OFF_GREEDY)
            loss, mtp, guess = cross_entropy(self.logits(h), target.flatten(), 1 / depth, rows.flatten())
            total = total + loss
            losses.append(mtp.view(-1, t))
            right = (target == guess.view(-1, t)) & greedy
            agree.append(right[:, :-1].sum() / greedy[:, :-1].sum().clamp(min=1))
            h = F.pad(h.view(-1, t, C.hidden_size)[:, :-1], (0, 0, 1, 0)).flatten(0, 1)
            greedy = chosen & F.pad(greedy[:, :-1], (1, 0))
        return total, main.view(-1, t), losses[0], torch.stack(agree)
