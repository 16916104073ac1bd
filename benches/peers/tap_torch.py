"""TAP by its authors' code, https://github.com/ZhengyaoJiang/latentplan: an update of the autoencoder or of the prior, or one plan.

Networks, windows of data, training loops and search are imported from a checkout (`--authors DIR`), with the stand-ins of
tests/golden/authors.py; data is made up, weights are random, constants are those of their `config/vqvae.py`. Written for commit
c096a5c6e37f78b918946cf8d26119a08d156c73.
"""

import contextlib
import os
import sys
from pathlib import Path

import authors_loop
import common
from authors_loop import Namespace

CODES, LATENT_STEP, SEQUENCE, HEADS, DISCOUNT = 512, 3, 25, 4, 0.99


def build(args):
    import numpy as np
    import torch
    import torch_common as tc

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))
    import authors

    tc.start(args)
    authors.import_latentplan(args.authors)
    import latentplan.utils.arrays as arrays
    from latentplan.datasets.sequence import SequenceDataset
    from latentplan.models.vqvae import TransformerPrior, VQContinuousVAE
    from latentplan.search import beam_with_prior, make_prefix
    from latentplan.utils import training

    arrays.DTYPE = torch.float32
    o, a = args.observations, args.actions
    transition = o + a + 3
    stacks = {
        "n_layer": args.layers, "n_head": HEADS, "n_embd": args.width, "embd_pdrop": args.dropout,
        "resid_pdrop": args.dropout, "attn_pdrop": args.dropout, "K": CODES, "latent_step": LATENT_STEP,
        "observation_dim": o, "obs_shape": [-1],
    }  # fmt: skip
    model = VQContinuousVAE(
        Namespace(
            vocab_size=100, block_size=SEQUENCE * transition, action_dim=a, transition_dim=transition,
            trajectory_embd=args.code_width, model="VQTransformer", ma_update=True, residual=True, bottleneck="pooling",
            masking="uniform", state_conditional=True, position_weight=1, action_weight=5, reward_weight=1,
            value_weight=1, first_action_weight=0, sum_reward_weight=0, last_value_weight=0, **stacks,
        )
    )  # fmt: skip
    prior = TransformerPrior(Namespace(block_size=SEQUENCE // LATENT_STEP, **stacks))
    with contextlib.redirect_stdout(sys.stderr):
        environment = authors_loop.Environment(authors_loop.made_up(o, a))
        dataset = SequenceDataset(environment, SEQUENCE, 1, DISCOUNT, penalty=-100, device="cpu")
    model.set_padding_vector(dataset.normalize_joined_single(np.zeros(transition - 1)))
    config = Namespace(
        device="cpu", batch_size=args.batch, num_workers=0, learning_rate=2e-4, weight_decay=0.1, betas=(0.9, 0.95),
        grad_norm_clip=1.0, lr_decay=False, warmup_tokens=1, final_tokens=2,
    )  # fmt: skip
    if args.part == "autoencoder":
        trainer = training.VQTrainer(config)
        return tc, authors_loop.Loop(training, dataset, args.batch, lambda: trainer.train(model, dataset)).run
    if args.part == "prior":
        trainer = training.PriorTrainer(config)
        return tc, authors_loop.Loop(training, dataset, args.batch, lambda: trainer.train(model, prior, dataset)).run

    model.eval()
    prior.eval()
    rng, nowhere = np.random.default_rng(0), open(os.devnull, "w")

    def plan():
        prefix = make_prefix(rng.standard_normal(o), transition - 1, device="cpu")[-1, -1, None, None]
        with contextlib.redirect_stdout(nowhere):
            beam_with_prior(
                prior, model, prefix, denormalize_rew=dataset.denormalize_rewards, denormalize_val=dataset.denormalize_values,
                discount=DISCOUNT, steps=args.horizon, beam_width=args.beam, n_expand=4, prob_threshold=0.05,
                likelihood_weight=5e2,
            )  # fmt: skip

    return tc, plan


if __name__ == "__main__":
    parser = common.parser(__doc__, batch=32, layers=4, width=512, code_width=512, beam=64, horizon=15)
    parser.add_argument("--part", choices=["autoencoder", "prior", "plan"], required=True)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--authors", type=Path, required=True, help="checkout of the authors' repository")
    args = parser.parse_args()
    common.pin(args.threads)
    tc, step = build(args)
    key = "seconds_per_plan" if args.part == "plan" else "ms_per_update"
    common.serve(args, f"TAP's authors' code, {tc.name('eager')}", step, tc.product, key, warm_up=2, at_least=2, stride=1)
