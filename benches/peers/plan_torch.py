"""The authors' planner, https://github.com/jannerm/trajectory-transformer: one plan with a full context.

Their code is imported from a checkout (`--authors DIR`), with the stand-ins of tests/golden/authors.py; the model has
the authors' size and random weights. Needs PyTorch, NumPy and safetensors.
"""

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import common

BINS, CONTEXT, DISCOUNT = 100, 5, 0.99


def build(args):
    import numpy as np
    import torch
    import torch_common as tc

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))
    import authors

    tc.start(args)
    authors.import_trajectory_transformer(args.authors)
    import trajectory.utils.arrays as arrays
    from trajectory.models.transformers import GPT
    from trajectory.search import beam_plan
    from trajectory.utils.discretization import QuantileDiscretizer

    arrays.DTYPE = torch.float32
    o, a = args.observations, args.actions
    places = o + a + 2
    sizes = SimpleNamespace(
        vocab_size=BINS, block_size=10 * places - 1, n_layer=4, n_head=4, n_embd=128, observation_dim=o,
        action_dim=a, transition_dim=places, action_weight=5, reward_weight=1, value_weight=1, embd_pdrop=0.1,
        resid_pdrop=0.1, attn_pdrop=0.1,
    )  # fmt: skip
    model = GPT(sizes).eval()
    np.random.seed(0)
    with contextlib.redirect_stdout(sys.stderr):  # it reports a test of itself
        discretizer = QuantileDiscretizer(np.random.default_rng(0).normal(size=(10_000, places)), BINS)
    prefix = torch.randint(BINS, (1, CONTEXT * places + o))

    def step(horizon=args.horizon):
        beam_plan(
            model, lambda probabilities: discretizer.value_fn(probabilities, "mean"), prefix, horizon, args.beam, 2, o,
            a, DISCOUNT, CONTEXT, verbose=False, k_obs=1, k_act=None, k_rew=1, cdf_obs=None, cdf_act=0.6, cdf_rew=None,
        )  # fmt: skip

    return tc, step


if __name__ == "__main__":
    parser = common.parser(__doc__, beam=32, horizon=5)
    parser.add_argument("--authors", type=Path, required=True, help="checkout of the authors' repository")
    args = parser.parse_args()
    common.pin(args.threads)
    tc, step = build(args)
    step(1)  # warm-up
    peer = f"authors' planner, {tc.name('eager')}"
    common.serve(args, peer, step, tc.product, "seconds_per_plan", warm_up=0, at_least=1, stride=1)
