"""The causal transformer of the JAX peers: pre-norm blocks of attention and a four times wider perceptron."""

import jax
import jax.numpy as jnp


def linear(key, inputs, outputs):
    return {"weight": 0.02 * jax.random.normal(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}


def apply(layer, x):
    return x @ layer["weight"] + layer["bias"]


def norm(width):
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


def normalize(layer, x):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * layer["scale"] + layer["bias"]


def dropout(key, x, rate):
    return x if rate == 0 else jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def block(key, width):
    shapes = {"inputs": (width, 3 * width), "output": (width, width)}
    shapes |= {"wide": (width, 4 * width), "narrow": (4 * width, width)}
    layers = {name: linear(k, *shape) for k, (name, shape) in zip(jax.random.split(key, 4), shapes.items())}
    return layers | {"norm1": norm(width), "norm2": norm(width)}


def forward(layers, x, mask, heads, activation, rate, key):
    """One block on (batch, length, width); `mask` (..., length, length) says who may look at whom."""
    keys = jax.random.split(key, 3)
    batch, length, width = x.shape
    joined = apply(layers["inputs"], normalize(layers["norm1"], x)).reshape(batch, length, 3, heads, -1)
    query, sought, value = jnp.moveaxis(joined, (2, 3), (0, 2))  # (batch, heads, length, width / heads)
    scores = jnp.einsum("bhtd,bhsd->bhts", query, sought) * (width // heads) ** -0.5
    weights = dropout(keys[0], jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), -1), rate)
    seen = jnp.einsum("bhts,bhsd->bthd", weights, value).reshape(batch, length, width)
    x = x + dropout(keys[1], apply(layers["output"], seen), rate)
    inner = activation(apply(layers["wide"], normalize(layers["norm2"], x)))
    return x + dropout(keys[2], apply(layers["narrow"], inner), rate)
