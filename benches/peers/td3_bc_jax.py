"""TD3+BC in JAX, from the equations of https://arxiv.org/abs/2106.06860: the work of one update, jitted as a whole.

The same work as `td3_bc_torch.py`; the update with the actor's part and the one without are two compiled functions, or with `--updates`
take turns in one.
"""

import common

DISCOUNT, RATE, NOISE, CLIP, ALPHA = 0.99, 0.005, 0.2, 0.5, 2.5


def build(args):
    import jax
    import jax.numpy as jnp
    import jax_common as jc

    o, a = args.observations, args.actions
    actor = jc.mlp(jax.random.key(3), [o, 256, 256, a])
    critics = jc.mlp(jax.random.key(4), [o + a, 256, 256, 1], (2,))

    def act(layers, observations):
        return jnp.tanh(jc.apply(layers, observations))

    def value(layers, observations, actions):
        return jc.apply(layers, jnp.concatenate([observations, actions], 1))[..., 0]  # (2, batch)

    def critic_loss(layers, batch, goal):
        q = value(layers, batch["observations"], batch["actions"])
        return jnp.square(q - goal).mean(1).sum()

    def actor_loss(layers, first_critic, batch):
        actions = act(layers, batch["observations"])
        q = value(first_critic, batch["observations"], actions)
        scale = ALPHA / jax.lax.stop_gradient(jnp.abs(q).mean())
        return jnp.square(actions - batch["actions"]).mean() - scale * q.mean()

    def update(state, data, seed, with_actor):
        keys = jax.random.split(jax.random.key(seed))
        batch = jc.sample({name: data[name] for name in data if name != "next_actions"}, keys[0], args.batch)
        noise = jnp.clip(NOISE * jax.random.normal(keys[1], batch["actions"].shape), -CLIP, CLIP)
        next_actions = jnp.clip(act(state["target_actor"], batch["next_observations"]) + noise, -1, 1)
        future = value(state["targets"], batch["next_observations"], next_actions).min(0)
        goal = batch["rewards"] + DISCOUNT * (1 - batch["terminated"]) * future
        gradients = jax.grad(critic_loss)(state["critics"], batch, goal)
        state = dict(state)
        state["critics"], state["critic_adam"] = jc.adam(state["critics"], gradients, state["critic_adam"], 3e-4)
        if with_actor:
            first_critic = jax.tree.map(lambda x: x[0], state["critics"])
            gradients = jax.grad(actor_loss)(state["actor"], first_critic, batch)
            state["actor"], state["actor_adam"] = jc.adam(state["actor"], gradients, state["actor_adam"], 3e-4)
            state["targets"] = jc.polyak(state["targets"], state["critics"], RATE)
            state["target_actor"] = jc.polyak(state["target_actor"], state["actor"], RATE)
        return state

    copy = lambda tree: jax.tree.map(jnp.copy, tree)
    state = {
        "actor": actor, "critics": critics, "target_actor": copy(actor), "targets": copy(critics),
        "actor_adam": jc.adam_state(actor), "critic_adam": jc.adam_state(critics),
    }  # fmt: skip
    updates = [lambda s, d, k: update(s, d, k, False), lambda s, d, k: update(s, d, k, True)]
    return jc, jc.stepper(args, updates, state, jc.buffer(o, a), wait_every=8)


if __name__ == "__main__":
    common.serve_loop(__doc__, build)
