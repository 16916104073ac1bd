"""Trajectory Transformer in JAX: the same work as `trajectory_transformer_torch.py`, jitted as a whole."""

import common

BINS, ACTION_WEIGHT = 100, 5.0


def build(args):
    import jax
    import jax.numpy as jnp
    import jax_common as jc
    import transformer_jax as tj

    o, a, width, context = args.observations, args.actions, args.width, args.context
    places = o + a + 2
    length = context * places - 1  # the last token is only a target
    keys = jax.random.split(jax.random.key(3), 2 + args.layers)
    parameters = {
        "tokens": 0.02 * jax.random.normal(keys[0], (BINS * places + 1, width)),
        "positions": jnp.zeros((length, width)),
        "blocks": [tj.block(key, width) for key in keys[2:]],
        "norm": tj.norm(width),
        "heads": jax.random.normal(keys[1], (places, width, BINS + 1)) * width**-0.5,
    }
    decays = jax.tree.map(lambda _: 0.0, parameters) | {
        "blocks": jax.tree.map(lambda p: 0.1 if p.ndim == 2 else 0.0, parameters["blocks"]),
        "heads": 0.1,
    }
    mask = jnp.tril(jnp.ones((length, length), bool)).at[:, places - 1 :: places].set(False)
    place_offsets = jnp.tile(jnp.arange(places) * BINS, context)[:length]
    weights = jnp.tile(jnp.array([1.0] * o + [ACTION_WEIGHT] * a + [1.0, 1.0]), context)[1:]

    def loss(p, inputs, targets, valid, key):
        x = p["tokens"][jnp.where(inputs == BINS, BINS * places, inputs + place_offsets)] + p["positions"]
        keys = jax.random.split(key, 1 + args.layers)
        x = tj.dropout(keys[0], x, args.dropout)
        for layers, key in zip(p["blocks"], keys[1:]):
            x = tj.forward(layers, x, mask, args.heads, lambda y: jax.nn.gelu(y, approximate=False), args.dropout, key)
        x = jnp.pad(tj.normalize(p["norm"], x), ((0, 0), (0, 1), (0, 0))).reshape(args.batch, context, places, width)
        logits = jnp.einsum("bcpw,pwn->bcpn", x, p["heads"]).reshape(args.batch, length + 1, -1)[:, :-1]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
        return -(picked * weights * valid).mean()

    def update(state, data, seed):
        keys = jax.random.split(jax.random.key(seed))
        starts, offsets = jax.random.randint(keys[0], (args.batch, 1), 0, common.STEPS), jnp.arange(context)
        valid = starts % common.EPISODE + offsets < common.EPISODE
        rows = jnp.where(valid, starts + offsets, starts)
        tokens = jnp.where(valid[..., None], data[rows], BINS).reshape(args.batch, -1)
        valid = jnp.repeat(valid, places, 1)[:, :-1]
        gradients = jax.grad(loss)(state["parameters"], tokens[:, :-1], tokens[:, 1:], valid, keys[1])
        p, adam = jc.adam(
            state["parameters"], gradients, state["adam"], 6e-4, betas=(0.9, 0.95), decays=decays, clip=1.0
        )
        return {"parameters": p, "adam": adam}

    data = jax.random.randint(jax.random.key(0), (common.STEPS, places), 0, BINS)
    return jc, jc.Stepper([update], {"parameters": parameters, "adam": jc.adam_state(parameters)}, data)


if __name__ == "__main__":
    parser = common.parser(__doc__, batch=32, context=10, layers=4, heads=4, width=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    args = parser.parse_args()
    common.pin(args.threads)
    jc, step = build(args)
    common.serve(args, jc.name(), step, jc.product, warm_up=2, at_least=2, stride=1, finish=step.finish)
