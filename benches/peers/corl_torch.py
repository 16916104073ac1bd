"""IQL, AWAC, CQL, SAC-N or EDAC by CORL's own code: one turn of its training loop, its figures for logging included.

Networks, constants and the replay buffer are those of `algorithms/offline/NAME.py` of a checkout (`--authors DIR`), with
their default sizes; only evaluating and sending figures away are left out.
"""

import common
import corl_common

# What `train` calls its buffer and its trainer, and the trainer's update.
NAMES = {
    "iql": ("replay_buffer", "trainer", "train"),
    "awac": ("replay_buffer", "awac", "update"),
    "cql": ("replay_buffer", "trainer", "train"),
    "sac_n": ("buffer", "trainer", "update"),
    "edac": ("buffer", "trainer", "update"),
}


def build(args):
    import torch_common as tc

    tc.start(args)
    module = corl_common.load(args, args.algorithm)
    config = module.TrainConfig(device="cpu", batch_size=args.batch, buffer_size=common.STEPS)
    found = corl_common.variables(module.ReplayBuffer, "sample", module.train, config)
    buffer, trainer, update = NAMES[args.algorithm]
    buffer, update = found[buffer], getattr(found[trainer], update)

    def step():
        batch = buffer.sample(args.batch)
        update([column.to(config.device) for column in batch])  # no copies: it is there

    return tc, step


if __name__ == "__main__":
    parser = common.parser(__doc__)
    parser.add_argument("--algorithm", choices=list(NAMES), required=True)
    corl_common.add_authors(parser)
    args = parser.parse_args()
    common.pin(args.threads)
    tc, step = build(args)
    common.serve(args, f"CORL's {args.algorithm}, {tc.name('eager')}", step, tc.product)
