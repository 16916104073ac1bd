"""ReBRAC by CORL's own code: turns of its training loop, jitted as a whole, its figures for logging included.

Networks, constants, the buffer and the body of the loop are those of `algorithms/offline/rebrac.py` of a checkout
(`--authors DIR`), with their default sizes; only evaluating and sending figures away are left out. A call makes
`--updates` of them, 1000 in CORL: with few, what a call costs (it copies the buffer) shows.
"""

import common
import corl_common


def build(args):
    import jax
    import jax_common as jc

    if not hasattr(jax, "tree_map"):
        jax.tree_map = jax.tree.map  # its name in CORL's JAX
    module = corl_common.load(args, "rebrac")
    module.qlearning_dataset = lambda _: corl_common.dataset(args.observations, args.actions)
    config = module.Config(batch_size=args.batch, num_updates_on_epoch=args.updates)
    found = corl_common.variables(module.Metrics, "create", module.train, config)
    carry, body = found["update_carry"], found["td3_loop_update_step"]
    carry["metrics"] = module.Metrics.create(found["bc_metrics_to_log"])
    epoch = jax.jit(lambda carry: jax.lax.fori_loop(0, args.updates, body, carry))

    def step():
        nonlocal carry
        carry = jax.block_until_ready(epoch(carry))

    return jc, step


if __name__ == "__main__":
    parser = common.parser(__doc__, batch=1024, updates=100)
    corl_common.add_authors(parser)
    args = parser.parse_args()
    common.pin(args.threads)
    jc, step = build(args)
    peer = f"CORL's rebrac, {jc.name()}"
    common.serve(args, peer, step, jc.product, warm_up=1, at_least=1, stride=1, updates=args.updates)
