"""An ensemble of Q-functions in JAX: the same work as `critics_torch.py`, jitted as a whole."""

import common

DISCOUNT, RATE = 0.99, 0.005


def build(args):
    import jax
    import jax.numpy as jnp
    import jax_common as jc

    sizes = [args.observations + args.actions, *[args.hidden] * args.layers, 1]
    critics = jc.mlp(jax.random.key(3), sizes, (args.members,))

    def value(layers, observations, actions):
        return jc.apply(layers, jnp.concatenate([observations, actions], 1))[..., 0]  # (members, batch)

    def loss(layers, batch, goal):
        return jnp.square(value(layers, batch["observations"], batch["actions"]) - goal).mean(1).sum()

    def update(state, data, seed):
        batch = jc.sample(data, jax.random.key(seed), args.batch)
        future = value(state["targets"], batch["next_observations"], batch["next_actions"]).min(0)
        goal = batch["rewards"] + DISCOUNT * (1 - batch["terminated"]) * future
        gradients = jax.grad(loss)(state["critics"], batch, goal)
        critics, adam = jc.adam(state["critics"], gradients, state["adam"], 3e-4)
        return {"critics": critics, "adam": adam, "targets": jc.polyak(state["targets"], critics, RATE)}

    state = {"critics": critics, "adam": jc.adam_state(critics), "targets": jax.tree.map(jnp.copy, critics)}
    return jc, jc.stepper(args, [update], state, jc.buffer(args.observations, args.actions), wait_every=4)


if __name__ == "__main__":
    common.serve_loop(__doc__, build, members=10, hidden=256, layers=3)
