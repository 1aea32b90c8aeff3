"""Trains the demo checkpoint.

    python3 train.py CORPUS RUN [--steps N | --seconds S] [--tokens-per-step N] [--lengths 512,2048] [--seed N]
                    [--mtp-share F] [--device cpu|cuda] [--workers N]

RUN/checkpoint.pt is written every minute and resumed from; RUN/log.jsonl has the losses, and now and then the held-out bits per
byte and MTP agreement of each domain.

Two phases: the whole model, then, for the last --mtp-share of the run, the MTP module alone. In each the learning rate falls
linearly to zero. With --seconds it follows the clock, so the run ends in time on any machine.
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
WARMUP = 100  # steps
MUON_LR, ADAM_LR = 0.02, 3e-3
MTP_WEIGHT = 0.3
MTP_PHASE_RATE, MTP_DEPTH, MTP_LENGTH = 0.5, 3, 512
BALANCE = 0.01
SAVED_EVERY = 60  # seconds


class Corpus:
    def __init__(self, folder, part, device):
        self.device = device
        self.tokens = {domain: torch.from_numpy(np.fromfile(folder / f"{domain}.{part}.bin", dtype=np.uint16).astype(np.int32)).to(device)
                       for domain in DOMAINS}

    def windows(self, domain, starts, length):
        """They always begin with bos, wherever in a document they start."""
        ids = self.tokens[domain][starts[:, None] + torch.arange(length, device=self.device) - 1]
        ids[:, 0] = 0
        return ids

    def batch(self, step, seed, count, length):
        random = np.random.default_rng([seed, step])
        counts = random.multinomial(count, list(DOMAINS.values()))
        parts = [self.windows(d, torch.from_numpy(random.integers(1, len(self.tokens[d]) - length, n)).to(self.device), length)
                 for d, n in zip(DOMAINS, counts)]
        return torch.cat(parts)[torch.from_numpy(random.permutation(count)).to(self.device)]


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
    gradients, and updates its own share of the parameters from everybody's. On a CPU all tensors are in shared memory."""

    def __init__(self, model, workers):
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.state = {name: {"m": torch.zeros_like(p)} for name, p in self.parameters.items()}
        for name, state in self.state.items():
            if not self.muon(name):
                state["v"] = torch.zeros_like(state["m"])
        self.gradients = [{name: torch.zeros_like(p) for name, p in self.parameters.items()} for _ in range(workers)]
        for tensors in [*self.state.values(), *self.gradients]:
            for tensor in tensors.values():
                tensor.share_memory_()  # on a GPU it does nothing

    def load(self, state):
        for name, tensors in state.items():
            for key, tensor in tensors.items():
                self.state[name][key].copy_(tensor)

    @staticmethod
    def muon(name):
        return "proj" in name

    def begin(self, worker):
        for name, p in self.parameters.items():
            p.grad = self.gradients[worker][name]

    def clear(self, worker):
        torch._foreach_zero_(list(self.gradients[worker].values()))

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
        first, *others = self.gradients
        return sum((gradients[name] for gradients in others), first[name]) / len(self.gradients)

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


def rate(phase, step, share):
    """Of the highest learning rate, `step` steps into the phase of which `share` is over. The MTP module's own phase starts lower,
    from weights that are already trained."""
    return (MTP_PHASE_RATE if phase == "mtp" else 1) * max(0, min(1 - share, (step + 1) / WARMUP))


@torch.no_grad()
def balance(model, loads, step):
    """Auxiliary-loss-free: nudge the bias of each expert towards the mean load."""
    for moe, load in zip(model.moe_layers(), loads.float()):
        moe.e_score_correction_bias += step * torch.sign(load.mean() - load)


@torch.no_grad()
def held_out(model, corpus, sizes, count, length):
    report = {}
    for domain, tokens in corpus.tokens.items():
        starts = torch.linspace(1, len(tokens) - length - 2, count, device=tokens.device).long()
        _, main, _, agree = model.losses(corpus.windows(domain, starts, length + 2), 1.0)
        report[domain] = {"bits_per_byte": round(float(main.mean()) / math.log(2) / sizes[domain], 4),
                          "agreement": round(float(agree.float().mean()), 4)}
    return report


def bytes_per_token(folder):
    return json.loads((folder / "bytes_per_token.json").read_text())


def save(path, **everything):
    torch.save(everything, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


class Run:
    """Data-parallel training by forked workers of one thread each, which meet at a barrier twice a step. On a GPU there is one."""

    def __init__(self, options):
        self.options = options
        self.corpus, self.held = (Corpus(options.corpus, part, options.device) for part in ("train", "held"))
        self.sizes = bytes_per_token(options.corpus)
        self.checkpoint = options.run / "checkpoint.pt"
        self.log = open(options.run / "log.jsonl", "a", buffering=1)
        self.share = torch.zeros(1, dtype=torch.float64).share_memory_()  # of the run that is over
        self.began = self.saved = time.time()
        self.tokens = 0

    def phase(self, name, model, optimizer, step, first, ends):
        """Trains from `step`, until `ends` of the run is over; `first` is where the phase began, as (step, share)."""
        workers = self.options.workers
        model.share_memory()
        self.name, self.model, self.optimizer, self.first, self.ends = name, model, optimizer, first, ends
        self.barrier = multiprocessing.Barrier(workers)
        self.loads = torch.zeros(workers, len(model.moe_layers()), C.n_routed_experts, dtype=torch.int64,
                                 device=self.options.device).share_memory_()
        self.losses = torch.zeros(workers, 2 + MTP_DEPTH, device=self.options.device).share_memory_()
        forks = [multiprocessing.Process(target=self.work, args=(n, step), daemon=True) for n in range(1, workers)]
        for fork in forks:
            fork.start()
        step = self.work(0, step)
        for fork in forks:
            fork.join()
        return step

    def work(self, worker, step):
        self.optimizer.begin(worker)
        while (share := float(self.share)) < self.ends:
            lr = rate(self.name, step - self.first[0], (share - self.first[1]) / (self.ends - self.first[1]))
            self.optimizer.clear(worker)
            self.losses[worker] = self.gradients(worker, step)
            self.loads[worker] = torch.stack([moe.load for moe in self.model.moe_layers()])
            self.barrier.wait()
            self.optimizer.step(worker, step - self.first[0], lr)
            step += 1
            if worker == 0:
                if self.name != "mtp":
                    balance(self.model, self.loads.sum(0), BALANCE * lr)
                self.report(step)
            self.barrier.wait()
        return step

    def gradients(self, worker, step):
        length = MTP_LENGTH if self.name == "mtp" else self.options.lengths[step % len(self.options.lengths)]
        ids = self.corpus.batch(step, self.options.seed, self.options.tokens_per_step // length, length + 2)
        ids = ids[worker :: self.options.workers]
        if self.name == "mtp":
            loss, main, mtp, agree = self.model.distill(ids, MTP_DEPTH)
        else:
            loss, main, mtp, agree = self.model.losses(ids, MTP_WEIGHT)
            agree = agree.float().mean().expand(MTP_DEPTH)
        loss.backward()
        return torch.cat([torch.stack([main.mean(), mtp.mean()]), agree]).detach()

    def report(self, step):
        """Also sets the share of the run that is over: by steps, or by time."""
        options = self.options
        self.tokens += options.tokens_per_step
        entry = None
        if step % options.log_every == 0:
            loss, mtp, *agreement = [round(value, 4) for value in self.losses.mean(0).tolist()]  # waits for a GPU
            seconds = time.time() - self.began
            entry = {"phase": self.name, "step": step, "loss": loss, "mtp": mtp, "agreement": agreement,
                     "seconds": round(seconds, 1), "tokens_per_s": round(self.tokens / seconds)}
        seconds = time.time() - self.began
        self.share += (seconds / options.seconds if options.seconds else step / options.steps) - self.share
        final = float(self.share) >= self.ends
        if final or step % (50 * options.log_every) == 0:
            entry = entry or {"phase": self.name, "step": step, "seconds": round(seconds, 1)}
            entry["busiest"] = [round(float(load.max() / load.mean()), 2) for load in self.loads.sum(0).float()]
            count = -(-options.tokens_per_step // options.lengths[0] // options.workers)
            entry["held_out"] = held_out(self.model, self.held, self.sizes, count, options.lengths[0])
        if entry:
            self.log.write(json.dumps(entry) + "\n")
        if final or time.time() - self.saved > SAVED_EVERY:
            save(self.checkpoint, phase=self.name, step=step, first=self.first, share=float(self.share), model=self.model.state_dict(),
                 optimizer=self.optimizer.state)
            self.saved = time.time()

    def resume(self):
        saved = torch.load(self.checkpoint, map_location=self.options.device)
        self.share += saved["share"]
        self.began -= saved["share"] * self.options.seconds
        return saved


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0, help="instead of --steps: train so long")
    parser.add_argument("--mtp-share", type=float, default=0.15, help="of the run, for the MTP module alone")
    parser.add_argument("--tokens-per-step", type=int, default=8192)
    parser.add_argument("--lengths", type=lambda text: [int(n) for n in text.split(",")], default=[256] * 9 + [1024],
                        help="of the windows, in turn: mostly short, some long so that long contexts work")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, help="processes on a CPU (default: one a core)")
    parser.add_argument("--log-every", type=int, default=1, help="steps")
    options = parser.parse_args()
    options.workers = 1 if options.device == "cuda" else options.workers or os.cpu_count()
    return options


def main():
    options = parse()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.run.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    saved = run.resume() if run.checkpoint.exists() else {"step": 0, "phase": "main", "first": (0, 0.0)}
    model, step = Model().to(options.device), saved["step"]
    if step:
        model.load_state_dict(saved["model"])
    for name, ends in ("main", 1 - options.mtp_share), ("mtp", 1.0):
        if float(run.share) >= ends:
            continue
        if name == "mtp":
            for parameter, p in model.named_parameters():
                p.requires_grad_(parameter.startswith("mtp."))
        optimizer = Optimizer(model, options.workers)
        first = (step, float(run.share))
        if step and saved["phase"] == name:
            optimizer.load(saved["optimizer"])
            first = saved["first"]
        step = run.phase(name, model, optimizer, step, first, ends)


if __name__ == "__main__":
    main()
