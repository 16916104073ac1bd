"""IQL in JAX, from the equations of https://arxiv.org/abs/2110.06169: the work of one update, jitted as a whole.

CORL's sizes and constants (`corl_torch.py --algorithm iql`): two critics, a value, a Gaussian policy whose mean is a tanh, weights and
targets from the value before its step, an actor's rate that falls along a cosine. Nothing is computed for logs.
"""

import common

DISCOUNT, RATE, EXPECTILE, BETA, MOST, UPDATES = 0.99, 0.005, 0.7, 3.0, 100.0, 1_000_000


def build(args):
    import jax
    import jax.numpy as jnp
    import jax_common as jc

    o, a = args.observations, args.actions
    actor = {"mean": jc.mlp(jax.random.key(3), [o, 256, 256, a]), "log_deviation": jnp.zeros(a)}
    critics = jc.mlp(jax.random.key(4), [o + a, 256, 256, 1], (2,))
    value = jc.mlp(jax.random.key(5), [o, 256, 256, 1])

    def q_values(layers, batch):
        return jc.apply(layers, jnp.concatenate([batch["observations"], batch["actions"]], 1))[..., 0]  # (2, batch)

    def critic_loss(layers, batch, goal):
        return jnp.square(q_values(layers, batch) - goal).mean()

    def value_loss(layers, batch, target_q):
        advantages = target_q - jc.apply(layers, batch["observations"])[:, 0]
        return (jnp.abs(EXPECTILE - (advantages < 0)) * jnp.square(advantages)).mean(), advantages

    def actor_loss(layers, batch, weights):
        means = jnp.tanh(jc.apply(layers["mean"], batch["observations"]))
        logs = jnp.clip(layers["log_deviation"], -20.0, 2.0)
        errors = (batch["actions"] - means) * jnp.exp(-logs)
        cloning = (0.5 * jnp.square(errors) + logs + 0.5 * jnp.log(2 * jnp.pi)).sum(1)
        return (weights * cloning).mean()

    def update(state, data, seed):
        columns = {name: data[name] for name in data if name != "next_actions"}
        batch = jc.sample(columns, jax.random.key(seed), args.batch)
        target_q = q_values(state["targets"], batch).min(0)
        future = jc.apply(state["value"], batch["next_observations"])[:, 0]
        goal = batch["rewards"] + DISCOUNT * (1 - batch["terminated"]) * future
        state = dict(state)
        gradients, advantages = jax.grad(value_loss, has_aux=True)(state["value"], batch, target_q)
        state["value"], state["value_adam"] = jc.adam(state["value"], gradients, state["value_adam"], 3e-4)
        gradients = jax.grad(critic_loss)(state["critics"], batch, goal)
        state["critics"], state["critic_adam"] = jc.adam(state["critics"], gradients, state["critic_adam"], 3e-4)
        state["targets"] = jc.polyak(state["targets"], state["critics"], RATE)
        weights = jnp.minimum(jnp.exp(BETA * advantages), MOST)
        gradients = jax.grad(actor_loss)(state["actor"], batch, weights)
        rate = 1.5e-4 * (1 + jnp.cos(jnp.pi * state["actor_adam"][2] / UPDATES))
        state["actor"], state["actor_adam"] = jc.adam(state["actor"], gradients, state["actor_adam"], rate)
        return state

    state = {"actor": actor, "critics": critics, "value": value, "targets": jax.tree.map(jnp.copy, critics)}
    state |= {"actor_adam": jc.adam_state(actor), "critic_adam": jc.adam_state(critics), "value_adam": jc.adam_state(value)}
    return jc, jc.stepper(args, [update], state, jc.buffer(o, a), wait_every=8)


if __name__ == "__main__":
    common.serve_loop(__doc__, build)
