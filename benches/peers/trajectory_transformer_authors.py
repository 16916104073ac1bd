"""Trajectory Transformer by its authors' code, https://github.com/jannerm/trajectory-transformer: one turn of their training loop.

The network, windows of tokens and the loop are imported from a checkout (`--authors DIR`), with the stand-ins of
tests/golden/authors.py; data is made up. Written for commit 8834a6ed04ceeab8fdb9465e145c6e041c05d71b.
"""

import contextlib
import sys
from pathlib import Path

import authors_loop
import common
from authors_loop import Namespace

BINS, DISCOUNT, PENALTY = 100, 0.99, -100


def load(folder):
    """The authors' package, ready to be imported from, in f32."""
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))
    import authors

    authors.import_trajectory_transformer(folder)
    import trajectory.utils.arrays as arrays

    arrays.DTYPE = torch.float32


def windows(columns, context, **options):
    """Their windows of so many transitions of data in D4RL's layout."""
    from trajectory.datasets.sequence import DiscretizedDataset

    with contextlib.redirect_stdout(sys.stderr):
        return DiscretizedDataset(authors_loop.Environment(columns), context, 1, N=BINS, **options)


def network(observations, actions, context, layers, heads, width, dropout, action_weight=5):
    """Their GPT with its random weights."""
    from trajectory.models.transformers import GPT

    places = observations + actions + 2
    return GPT(
        Namespace(
            vocab_size=BINS, block_size=context * places - 1, n_layer=layers, n_head=heads, n_embd=width,
            observation_dim=observations, action_dim=actions, transition_dim=places, action_weight=action_weight,
            reward_weight=1, value_weight=1, embd_pdrop=dropout, resid_pdrop=dropout, attn_pdrop=dropout,
        )
    )  # fmt: skip


def loop(model, dataset, batch, rate, warmup_tokens, final_tokens):
    """Their training loop over batches of the windows."""
    from trajectory.utils import training

    config = Namespace(
        device="cpu", batch_size=batch, num_workers=0, learning_rate=rate, weight_decay=0.1, betas=(0.9, 0.95),
        grad_norm_clip=1.0, lr_decay=True, warmup_tokens=warmup_tokens, final_tokens=final_tokens,
    )  # fmt: skip
    trainer = training.Trainer(config)
    return authors_loop.Loop(training, dataset, batch, lambda: trainer.train(model, dataset))


def build(args):
    import numpy as np
    import torch_common as tc

    tc.start(args)
    np.random.seed(0)
    load(args.authors)
    o, a = args.observations, args.actions
    dataset = windows(authors_loop.made_up(o, a), args.context, discount=DISCOUNT, penalty=PENALTY)
    model = network(o, a, args.context, args.layers, args.heads, args.width, args.dropout)
    return tc, loop(model, dataset, args.batch, 6e-4, 1, 10**12).run


if __name__ == "__main__":
    parser = common.parser(__doc__, batch=32, context=10, layers=4, heads=4, width=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--authors", type=Path, required=True, help="checkout of the authors' repository")
    args = parser.parse_args()
    common.pin(args.threads)
    tc, step = build(args)
    common.serve(args, f"the authors' code, {tc.name('eager')}", step, tc.product, warm_up=2, at_least=2, stride=1)
