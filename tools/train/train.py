"""Trains the demo checkpoint.

    python3 train.py CORPUS RUN [--steps N] [--tokens-per-step N] [--seed N] [--grow STEP]
                    [--mtp-steps N] [--workers N]

RUN/checkpoint.pt is written every few minutes and resumed from; RUN/log.jsonl has the losses, and every few hundred
steps the held-out bits per byte and MTP agreement of each domain.

Three phases: half of the layers until --grow; all layers until --steps, with a learning rate that is constant and then
falls linearly to zero (so --steps may be changed until the fall begins); the MTP module alone for --mtp-steps more.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch

from kernels import adamw
from model import C, Model

DOMAINS = {"docs": 0.38, "code": 0.36, "records": 0.26}  # share of the training windows
WARMUP, DECAY = 30, 0.45
MUON_LR, ADAM_LR = 0.02, 3e-3
MTP_WEIGHT = 0.3
MTP_PHASE_RATE = 0.4
BALANCE = 0.01
LENGTHS = [256] * 9 + [1024]  # of the windows, in turn: mostly short, some long so that long contexts work


class Corpus:
    def __init__(self, folder, part):
        self.tokens = {domain: np.fromfile(folder / f"{domain}.{part}.bin", dtype=np.uint16) for domain in DOMAINS}

    def window(self, domain, start, length):
        """Always begins with bos, wherever in a document it starts."""
        return np.concatenate([[0], self.tokens[domain][start : start + length - 1]]).astype(np.int32)

    def batch(self, step, seed, count, length):
        random = np.random.default_rng([seed, step])
        domains = random.choice(list(DOMAINS), size=count, p=list(DOMAINS.values()))
        starts = [random.integers(len(self.tokens[domain]) - length) for domain in domains]
        return torch.from_numpy(np.stack([self.window(d, s, length) for d, s in zip(domains, starts)]))


def orthogonalize(g):
    """Newton-Schulz, as Muon does it, for a stack of matrices."""
    tall = g.shape[1] > g.shape[2]
    x = (g.transpose(1, 2) if tall else g).to(torch.bfloat16).contiguous()
    x = x / (x.float().pow(2).sum((1, 2), keepdim=True).sqrt() + 1e-7).to(x.dtype)
    for _ in range(5):
        a = torch.bmm(x, x.transpose(1, 2))
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return (x.transpose(1, 2) if tall else x).float()


class Optimizer:
    """Muon for the matrices of the layers, AdamW for embeddings, head, router and norms. Every worker has its own
    gradients, and updates its own share of the parameters from everybody's. All tensors are in shared memory."""

    def __init__(self, model, workers):
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.state = {name: {"m": torch.zeros_like(p)} for name, p in self.parameters.items()}
        for name, state in self.state.items():
            if not self.muon(name):
                state["v"] = torch.zeros_like(state["m"])
        self.gradients = [{name: torch.zeros_like(p).share_memory_() for name, p in self.parameters.items()}
                          for _ in range(workers)]
        self.share()

    def share(self):
        for state in self.state.values():
            for tensor in state.values():
                tensor.share_memory_()

    @staticmethod
    def muon(name):
        return "proj" in name

    def begin(self, worker):
        for name, p in self.parameters.items():
            p.grad = self.gradients[worker][name]

    def clear(self, worker):
        for gradient in self.gradients[worker].values():
            gradient.zero_()

    def tasks(self):
        """Units of work: one AdamW parameter, or some Muon matrices of one shape."""
        shapes, tasks = {}, []
        for name, p in self.parameters.items():
            if self.muon(name):
                tasks_of_shape = shapes.setdefault((p.shape, len(tasks) if p.dim() == 3 else 0), [])
                if not tasks_of_shape:
                    tasks.append(tasks_of_shape)
                tasks_of_shape.append(name)
            else:
                tasks.append([name])
        return tasks

    def gradient(self, name):
        return sum(gradients[name] for gradients in self.gradients) / len(self.gradients)

    @torch.no_grad()
    def step(self, worker, step, rate):
        for names in self.tasks()[worker :: len(self.gradients)]:
            if not self.muon(names[0]):
                p = self.parameters[names[0]]
                adamw(p, self.gradient(names[0]), self.state[names[0]], step + 1, ADAM_LR * rate)
                continue
            updates = []
            for name in names:
                m, g = self.state[name]["m"], self.gradient(name)
                m.lerp_(g, 0.05)
                updates.append(g.lerp(m, 0.95))
            shape = updates[0].shape[-2:]
            stack = torch.cat([update.view(-1, *shape) for update in updates])
            updates = (orthogonalize(stack) * max(1, shape[0] / shape[1]) ** 0.5).chunk(len(names))
            for name, update in zip(names, updates):
                p = self.parameters[name]
                p.mul_(1 - 0.02 * MUON_LR * rate).sub_(update.view_as(p), alpha=MUON_LR * rate)


def grow(model):
    """Doubles the depth without changing what the model computes: every second layer is a copy of the one before it,
    with output projections of zero."""
    deep = Model()
    deep.load_state_dict({**deep.state_dict(), **{n: p for n, p in model.state_dict().items() if "layers." not in n}})
    for n, layer in enumerate(deep.layers):
        original = max(1, (n + 1) // 2) if n else 0
        original = min(original, len(model.layers) - 1)
        layer.load_state_dict(model.layers[original].state_dict())
        if n != 2 * original - 1 and n:
            with torch.no_grad():
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.zero_()
                layer.mlp.shared_experts.down_proj.weight.zero_()
    return deep


def rate(phase, step, first, last):
    """Of the highest learning rate. The MTP phase starts lower, from weights that are already trained."""
    if phase == "mtp":
        return MTP_PHASE_RATE * (last - step) / (last - first)
    if phase == "half":
        return min(1, (step + 1) / WARMUP)
    return min(1, (step + 1) / WARMUP, (last - step) / (DECAY * last))


@torch.no_grad()
def balance(model, loads, step):
    """Auxiliary-loss-free: nudge the bias of each expert towards the mean load."""
    for moe, load in zip(model.moe_layers(), loads.float()):
        moe.e_score_correction_bias += step * torch.sign(load.mean() - load)


@torch.no_grad()
def held_out(model, corpus, bytes_per_token, length=256, count=24):
    report = {}
    for domain, tokens in corpus.tokens.items():
        starts = np.linspace(0, len(tokens) - length - 2, count).astype(int)
        ids = torch.from_numpy(np.stack([corpus.window(domain, s, length + 2) for s in starts]))
        _, main, _, agree = model.losses(ids, 1.0)
        report[domain] = {"bits_per_byte": round(float(main.mean()) / math.log(2) / bytes_per_token[domain], 4),
                          "agreement": round(float(agree.float().mean()), 4)}
    return report


def bytes_per_token(folder):
    sizes = {}
    for domain in DOMAINS:
        with open(folder / f"{domain}.held.jsonl", encoding="utf-8") as lines:
            size = sum(len(json.loads(line)["text"].encode()) for line in lines)
        sizes[domain] = size / (os.path.getsize(folder / f"{domain}.held.bin") // 2)
    return sizes


def save(path, **everything):
    torch.save(everything, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


class Run:
    """Data-parallel training by forked workers of one thread each, which meet at a barrier twice a step."""

    def __init__(self, options):
        self.options = options
        self.corpus, self.held = Corpus(options.corpus, "train"), Corpus(options.corpus, "held")
        self.sizes = bytes_per_token(options.corpus)
        self.checkpoint = options.run / "checkpoint.pt"
        self.log = open(options.run / "log.jsonl", "a", buffering=1)

    def phase(self, name, model, optimizer, step, first, last):
        """Trains from `step` to `last`; `first` is where the phase began, maybe in an earlier run."""
        workers = self.options.workers
        model.share_memory()
        self.name, self.model, self.optimizer = name, model, optimizer
        self.barrier = multiprocessing.Barrier(workers)
        self.loads = torch.zeros(workers, len(model.moe_layers()), C.n_routed_experts, dtype=torch.int64).share_memory_()
        self.losses = torch.zeros(workers, 3).share_memory_()
        forks = [multiprocessing.Process(target=self.work, args=(n, step, first, last), daemon=True) for n in range(1, workers)]
        for fork in forks:
            fork.start()
        self.work(0, step, first, last)
        for fork in forks:
            fork.join()

    def work(self, worker, begin, first, last):
        self.optimizer.begin(worker)
        self.began = self.saved = time.time()
        for step in range(begin, last):
            self.optimizer.clear(worker)
            self.losses[worker] = self.gradients(worker, step)
            self.loads[worker] = torch.stack([moe.load for moe in self.model.moe_layers()])
            self.barrier.wait()
            lr = rate(self.name, step, first, last)
            self.optimizer.step(worker, step - first, lr)
            if worker == 0:
                if self.name != "mtp":
                    balance(self.model, self.loads.sum(0), BALANCE * lr)
                self.report(step, step + 1 == last)
            self.barrier.wait()

    def gradients(self, worker, step):
        length = LENGTHS[step % len(LENGTHS)]
        ids = self.corpus.batch(step, self.options.seed, self.options.tokens_per_step // length, length + 2)
        ids = ids[worker :: self.options.workers]
        loss, main, mtp, agree = self.model.distill(ids) if self.name == "mtp" else self.model.losses(ids, MTP_WEIGHT)
        loss.backward()
        return torch.tensor([main.mean(), mtp.mean(), agree.float().mean()])

    def report(self, step, final):
        loss, mtp, agreement = self.losses.mean(0).tolist()
        entry = {"step": step, "loss": round(loss, 4), "mtp": round(mtp, 4), "agreement": round(agreement, 4),
                 "seconds": round(time.time() - self.began, 1)}
        if step % 250 == 249 or final:
            entry["busiest"] = [round(float(load.max() / load.mean()), 2) for load in self.loads.sum(0).float()]
            entry["held_out"] = held_out(self.model, self.held, self.sizes)
        self.log.write(json.dumps(entry) + "\n")
        if time.time() - self.saved > 120 or final:
            save(self.checkpoint, phase=self.name, step=step + 1, model=self.model.state_dict(), optimizer=self.optimizer.state)
            self.saved = time.time()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=850)
    parser.add_argument("--grow", type=int, default=433, help="train with half of the layers until this step")
    parser.add_argument("--mtp-steps", type=int, default=150, help="then train the MTP module alone for so many")
    parser.add_argument("--tokens-per-step", type=int, default=8192)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.run.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    saved = torch.load(run.checkpoint) if run.checkpoint.exists() else {"step": 0, "phase": None}
    step = saved["step"]
    model = Model(C.num_hidden_layers // 2 if step <= options.grow and saved["phase"] != "full" else C.num_hidden_layers)
    if step:
        model.load_state_dict(saved["model"])
    first = 0
    for name, last in ("half", options.grow), ("full", options.steps), ("mtp", options.steps + options.mtp_steps):
        if step < last:
            if name == "full" and len(model.layers) < C.num_hidden_layers:
                model = grow(model)
            if name == "mtp":
                for parameter, p in model.named_parameters():
                    p.requires_grad_(parameter.startswith("mtp."))
            optimizer = Optimizer(model, options.workers)
            if saved["phase"] == name:
                optimizer.state = saved["optimizer"]
                optimizer.share()
            run.phase(name, model, optimizer, step, first, last)
            step = last
        first = last


if __name__ == "__main__":
    main()
