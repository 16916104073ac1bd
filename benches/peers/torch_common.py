"""What the PyTorch peers share: threads, the made-up buffer, the matmul rate, compiled losses and optimisers."""

import torch
from common import EPISODE, STEPS


def start(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)


def product(m, k, n):
    """One product through PyTorch's own BLAS: MKL on x86."""
    left, right = torch.randn(m, k), torch.randn(k, n)
    out = torch.empty(m, n)
    return lambda: torch.mm(left, right, out=out)


def name(mode):
    blas = "MKL" if torch.backends.mkl.is_available() else "no MKL"
    return f"PyTorch {torch.__version__} {mode} ({blas}, {torch.backends.cpu.get_cpu_capability()})"


def compiled(function, mode):
    """The function, or what torch.compile makes of it; shapes never change here."""
    return torch.compile(function, dynamic=False) if mode == "compile" else function


def adam(parameters, mode, kind=torch.optim.Adam, **options):
    """Eager: the optimiser as people write it. Compiled: PyTorch's own fused kernel."""
    return kind(parameters, fused=True if mode == "compile" else None, **options)


@torch.no_grad()
def polyak(targets, sources, rate, mode):
    """target <- (1 - rate) target + rate source."""
    if mode == "compile":
        torch._foreach_lerp_(targets, sources, rate)
        return
    for target, source in zip(targets, sources):
        target.lerp_(source, rate)


class Buffer:
    """Transitions that stay in memory, one tensor per column."""

    def __init__(self, observation_dim, action_dim):
        self.observations = torch.randn(STEPS, observation_dim)
        self.actions = torch.rand(STEPS, action_dim) * 2 - 1
        self.rewards = torch.randn(STEPS)
        self.next_observations = torch.randn(STEPS, observation_dim)
        self.next_actions = torch.rand(STEPS, action_dim) * 2 - 1
        self.terminated = (torch.arange(STEPS) % EPISODE == EPISODE - 1).float()

    def sample(self, batch, *names):
        """So many rows, drawn with replacement, of the named columns."""
        rows = torch.randint(STEPS, (batch,))
        return [getattr(self, name)[rows] for name in names]
