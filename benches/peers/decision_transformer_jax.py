"""Decision Transformer in JAX: the same work as `decision_transformer_torch.py`, jitted as a whole."""

import common


def build(args):
    import jax
    import jax.numpy as jnp
    import jax_common as jc
    import transformer_jax as tj

    o, a, k, width = args.observations, args.actions, args.context, args.width
    keys = jax.random.split(jax.random.key(3), 6 + args.layers)
    parameters = {
        "embeddings": [tj.linear(key, inputs, width) for key, inputs in zip(keys, (1, o, a))],
        "times": 0.02 * jax.random.normal(keys[3], (common.EPISODE, width)),
        "norms": [tj.norm(width), tj.norm(width)],
        "blocks": [tj.block(key, width) for key in keys[6:]],
        "head": tj.linear(keys[4], width, a),
    }
    causal = jnp.tril(jnp.ones((3 * k, 3 * k), bool))

    def predict(p, columns, times, valid, key):
        parts = [tj.apply(layer, column) + p["times"][times] for layer, column in zip(p["embeddings"], columns)]
        x = jnp.stack(parts, 2).reshape(args.batch, 3 * k, width)
        keys = jax.random.split(key, 1 + args.layers)
        x = tj.dropout(keys[0], tj.normalize(p["norms"][0], x), args.dropout)
        mask = causal & jnp.repeat(valid, 3, 1)[:, None, None, :] | jnp.eye(3 * k, dtype=bool)
        for layers, key in zip(p["blocks"], keys[1:]):
            x = tj.forward(layers, x, mask, args.heads, jax.nn.relu, args.dropout, key)
        return jnp.tanh(tj.apply(p["head"], tj.normalize(p["norms"][1], x)[:, 1::3]))

    def loss(p, columns, times, valid, key):
        error = jnp.square(predict(p, columns, times, valid, key) - columns[2]).mean(2)
        return (error * valid).sum() / valid.sum()

    def update(state, data, seed):
        keys = jax.random.split(jax.random.key(seed))
        starts, offsets = jax.random.randint(keys[0], (args.batch, 1), 0, common.STEPS), jnp.arange(k)
        times = starts % common.EPISODE + offsets  # (batch, k)
        valid = times < common.EPISODE
        rows = jnp.where(valid, starts + offsets, starts)
        columns = [jnp.where(valid[..., None], column[rows], 0.0) for column in data]
        times = jnp.where(valid, times, 0)
        gradients = jax.grad(loss)(state["parameters"], columns, times, valid, keys[1])
        decays = jax.tree.map(lambda _: 1e-4, gradients)
        p, adam = jc.adam(state["parameters"], gradients, state["adam"], 1e-4, decays=decays, clip=0.25)
        return {"parameters": p, "adam": adam}

    buffer = jc.buffer(o, a)
    data = [buffer["rewards"][:, None], buffer["observations"], buffer["actions"]]
    return jc, jc.Stepper([update], {"parameters": parameters, "adam": jc.adam_state(parameters)}, data)


if __name__ == "__main__":
    parser = common.parser(__doc__, batch=64, context=20, layers=3, heads=1, width=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    args = parser.parse_args()
    common.pin(args.threads)
    jc, step = build(args)
    common.serve(args, jc.name(), step, jc.product, warm_up=2, at_least=2, stride=1, finish=step.finish)
