"""What `transformers`' DecisionTransformerModel predicts: sizes of hopper and halfcheetah, batches and left padding.

python tests/golden/transformers_decision_transformer.py

Writes transformers_decision_transformer_{hopper,halfcheetah,variants}.safetensors (weights by hashed_weights.py, so that
only inputs and outputs are stored), and hub/decision_transformer/: a tiny model as `save_pretrained` writes it, and the
same as the pickle of transformers 4.18, with its mask buffers. Run with transformers 5.24.0, torch 2.15.0.
"""

import json

import torch
import transformers
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from authors import HERE, save
from hashed_weights import fill

torch.set_num_threads(1)
# As in the config.json of the nine gym models; the defaults are the class's.
GYM = {"hidden_size": 128, "n_layer": 3, "n_head": 1, "max_ep_len": 1000, "n_positions": 1024, "vocab_size": 1,
       "activation_function": "relu", "action_tanh": True, "n_inner": None}  # fmt: skip
LENGTHS = [20, 7, 1]


def contexts(state_dim, act_dim, steps, lengths, seed):
    """Left-padded batches with zeros where the mask is 0."""
    generator = torch.Generator().manual_seed(seed)
    batch = len(lengths)
    mask = torch.zeros(batch, steps, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, steps - length :] = 1

    def normal(width):
        return torch.randn(batch, steps, width, generator=generator) * mask[..., None]

    first = torch.randint(0, 900, (batch, 1), generator=generator)
    timesteps = (first + torch.arange(steps)) * mask
    return {"states": normal(state_dim), "actions": normal(act_dim).clamp(-1, 1), "returns_to_go": normal(1),
            "timesteps": timesteps, "attention_mask": mask}  # fmt: skip


def answers(model, inputs):
    with torch.no_grad():
        output = model(**inputs)
    return {"action_preds": output.action_preds, "state_preds": output.state_preds, "return_preds": output.return_preds}


def numbers(tensors, prefix=""):
    return {prefix + name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}


def write_sizes(name, state_dim, act_dim):
    config = DecisionTransformerConfig(state_dim=state_dim, act_dim=act_dim, **GYM)
    model = fill(DecisionTransformerModel(config))
    inputs = contexts(state_dim, act_dim, 20, LENGTHS, 1)
    count = sum(parameter.numel() for parameter in model.parameters())
    metadata = {"transformers": transformers.__version__, "parameters": count, "config": GYM | {"state_dim": state_dim, "act_dim": act_dim}}
    save(f"transformers_decision_transformer_{name}", numbers(inputs) | numbers(answers(model, inputs)), metadata)


def write_variants():
    """One tensor set per configuration that changes what the same weights compute."""
    base = {"state_dim": 5, "act_dim": 2, "hidden_size": 32, "n_layer": 2, "n_head": 4, "max_ep_len": 1000, "n_positions": 8}
    variants = {"gelu": {"activation_function": "gelu"}, "gelu_new": {"activation_function": "gelu_new"}, "inner": {"n_inner": 48}}  # fmt: skip
    inputs = contexts(5, 2, 6, [6, 4], 2)
    out, configs = numbers(inputs), {}
    for name, keys in variants.items():
        config = base | keys
        out |= numbers(answers(fill(DecisionTransformerModel(DecisionTransformerConfig(**config))), inputs), name + ".")
        configs[name] = config
    save("transformers_decision_transformer_variants", out, {"transformers": transformers.__version__, "configs": configs})


def write_tiny():
    config = DecisionTransformerConfig(state_dim=3, act_dim=1, hidden_size=16, n_layer=2, n_head=2, max_ep_len=60, n_positions=16)
    torch.manual_seed(3)
    model = DecisionTransformerModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    folder = HERE / "hub" / "decision_transformer"
    model.save_pretrained(folder)
    old = dict(model.state_dict())
    for layer in range(2):
        old[f"encoder.h.{layer}.attn.bias"] = torch.tril(torch.ones(16, 16, dtype=torch.uint8)).view(1, 1, 16, 16)
        old[f"encoder.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(old, folder / "pytorch_model.bin")
    # What the class's defaults are, for files that leave them out.
    defaults = DecisionTransformerConfig().to_dict()
    keys = ["state_dim", "act_dim", "hidden_size", "max_ep_len", "action_tanh", "n_positions", "n_layer", "n_head", "n_inner",
            "activation_function", "layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx"]  # fmt: skip
    (folder / "defaults.json").write_text(json.dumps({key: defaults[key] for key in keys}, indent=1) + "\n")
    inputs = contexts(3, 1, 8, [8, 3], 4)
    inputs["timesteps"] = inputs["timesteps"].clamp(max=59)
    save("transformers_decision_transformer_tiny", numbers(inputs) | numbers(answers(model, inputs)), {"transformers": transformers.__version__})


if __name__ == "__main__":
    write_sizes("hopper", 11, 3)
    write_sizes("halfcheetah", 17, 6)
    write_variants()
    write_tiny()
