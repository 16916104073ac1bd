"""What the JAX peers share: initial values, Adam, the made-up buffer, the matmul rate."""

import math

import jax
import jax.numpy as jnp
from common import EPISODE, STEPS


def name(args=None):
    count = getattr(args, "updates", 1)
    what = f"{count} updates {'unrolled' if args.unrolled else 'looped'} and" if count > 1 else "whole step"
    return f"JAX {jax.__version__} {what} jitted"


def product(m, k, n):
    """One product through XLA."""
    left, right = jax.random.normal(jax.random.key(1), (m, k)), jax.random.normal(jax.random.key(2), (k, n))
    multiply = jax.jit(jnp.matmul)
    return lambda: multiply(left, right).block_until_ready()


def uniform(key, shape, inputs):
    """PyTorch's initial values of a linear layer."""
    return jax.random.uniform(key, shape, minval=-1, maxval=1) / math.sqrt(inputs)


def mlp(key, sizes, members=()):
    """Weights (members..., in, out) and biases (members..., 1, out)."""
    layers = []
    for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:])):
        keys = jax.random.split(jax.random.fold_in(key, i))
        weight, bias = (*members, inputs, outputs), (*members, 1, outputs)
        layers.append((uniform(keys[0], weight, inputs), uniform(keys[1], bias, inputs)))
    return layers


def apply(layers, x):
    """A multilayer perceptron with ReLU between layers."""
    for i, (weight, bias) in enumerate(layers):
        x = jnp.matmul(jax.nn.relu(x) if i else x, weight) + bias
    return x


def adam_state(parameters):
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return zeros, jax.tree.map(jnp.zeros_like, parameters), jnp.zeros((), jnp.int32)


def adam(parameters, gradients, state, rate, betas=(0.9, 0.999), decays=None, clip=None):
    """One step of Adam, or of AdamW where `decays` holds a decay per parameter; `clip` bounds the gradients' norm."""
    first, second, count = state
    count = count + 1
    if clip is not None:
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradients)))
        gradients = jax.tree.map(lambda g: g * jnp.minimum(1.0, clip / (norm + 1e-6)), gradients)
    first = jax.tree.map(lambda m, g: betas[0] * m + (1 - betas[0]) * g, first, gradients)
    second = jax.tree.map(lambda v, g: betas[1] * v + (1 - betas[1]) * g * g, second, gradients)
    scales = [1 / (1 - beta**count) for beta in betas]

    def moved(p, m, v, decay):
        return p - rate * (decay * p + m * scales[0] / (jnp.sqrt(v * scales[1]) + 1e-8))

    decays = jax.tree.map(lambda _: 0.0, parameters) if decays is None else decays
    return jax.tree.map(moved, parameters, first, second, decays), (first, second, count)


def polyak(targets, sources, rate):
    return jax.tree.map(lambda target, source: target + rate * (source - target), targets, sources)


def buffer(observation_dim, action_dim):
    """Transitions that stay in memory, one array per column."""
    keys = iter(jax.random.split(jax.random.key(0), 5))
    return {
        "observations": jax.random.normal(next(keys), (STEPS, observation_dim)),
        "actions": jax.random.uniform(next(keys), (STEPS, action_dim), minval=-1, maxval=1),
        "rewards": jax.random.normal(next(keys), (STEPS,)),
        "next_observations": jax.random.normal(next(keys), (STEPS, observation_dim)),
        "next_actions": jax.random.uniform(next(keys), (STEPS, action_dim), minval=-1, maxval=1),
        "terminated": (jnp.arange(STEPS) % EPISODE == EPISODE - 1).astype(jnp.float32),
    }


def sample(data, key, batch):
    """So many rows of every column, drawn with replacement."""
    rows = jax.random.randint(key, (batch,), 0, STEPS)
    return {name: column[rows] for name, column in data.items()}


class Stepper:
    """Calls jitted `update(state, data, seed)`s in turn; the state is given away, so it is updated in place.

    Calls return before the work is done: after every `wait_every` of them it is waited for.
    """

    def __init__(self, updates, state, data, wait_every=1):
        self.updates = [jax.jit(update, donate_argnums=0) for update in updates]
        self.state, self.data, self.wait_every, self.count = state, data, wait_every, 0

    def __call__(self):
        update = self.updates[self.count % len(self.updates)]
        self.count += 1
        self.state = update(self.state, self.data, self.count)
        if self.count % self.wait_every == 0:
            self.finish()

    def finish(self):
        jax.block_until_ready(self.state)


def several(updates, count, unrolled):
    """One function that makes so many updates, `updates` in turn, with the seeds that a `Stepper` would give them.

    A loop is `jax.lax.scan`, as in https://github.com/EmptyJackson/unifloral (2500 updates a call); https://github.com/nissymori/JAX-CORL
    unrolls eight. A turn of the loop has each of `updates` once, so that nothing is chosen inside.
    """
    if count % len(updates):
        raise ValueError(f"{count} updates in a call, expected a multiple of {len(updates)}")

    def turn(state, data, seed):
        for place, update in enumerate(updates):
            state = update(state, data, seed + place)
        return state

    def call(state, data, number):
        seeds = (number - 1) * count + 1 + len(updates) * jnp.arange(count // len(updates))
        if unrolled:
            for seed in seeds:
                state = turn(state, data, seed)
            return state
        return jax.lax.scan(lambda state, seed: (turn(state, data, seed), None), state, seeds)[0]

    return call


def stepper(args, updates, state, data, wait_every):
    """A `Stepper` of single updates, or of as many in a call as `args` say."""
    if args.updates == 1:
        return Stepper(updates, state, data, wait_every)
    return Stepper([several(updates, args.updates, args.unrolled)], state, data)
