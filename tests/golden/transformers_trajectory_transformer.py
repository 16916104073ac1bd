"""What `transformers`' TrajectoryTransformerModel predicts, and small files in its layout and its authors'.

python tests/golden/transformers_trajectory_transformer.py

Writes transformers_trajectory_transformer_{hopper,halfcheetah}.safetensors (weights by hashed_weights.py), and
hub/trajectory_transformer/ (config.json and the pickle as `save_pretrained` of 4.30 wrote it, mask buffers included) and
hub/trajectory_transformer_authors/state_3.pt (another under jannerm's names, as `torch.save(state_dict)`).
The model has left `transformers`: run with 4.57.6, its last release, and torch 2.15.0.
"""

import json

import torch
import transformers
from transformers.models.deprecated.trajectory_transformer import TrajectoryTransformerConfig, TrajectoryTransformerModel

from authors import HERE, save
from hashed_weights import fill

torch.set_num_threads(1)


def sizes(observation_dim, action_dim, **other):
    transition = observation_dim + action_dim + 2
    return {"observation_dim": observation_dim, "action_dim": action_dim, "transition_dim": transition,
            "block_size": 10 * transition - 1, **other}  # fmt: skip


def logits(model, tokens):
    with torch.no_grad():
        return model(tokens, return_dict=True).logits.double()


def write_sizes(name, config):
    model = fill(TrajectoryTransformerModel(TrajectoryTransformerConfig(**config)))
    generator = torch.Generator().manual_seed(5)
    # Token V is the end of an episode.
    long = torch.randint(0, 101, (2, config["block_size"]), generator=generator)
    short = long[:, :20]
    transition = config["transition_dim"]
    tensors = {"tokens": long, "short": logits(model, short), "last": logits(model, long)[:, -transition:].contiguous()}
    count = sum(parameter.numel() for parameter in model.parameters())
    metadata = {"transformers": transformers.__version__, "parameters": count, "config": config}
    save(f"transformers_trajectory_transformer_{name}", tensors, metadata)


def write_tiny():
    config = TrajectoryTransformerConfig(vocab_size=10, n_embd=16, n_head=2, n_layer=2, **sizes(3, 1))
    model = fill(TrajectoryTransformerModel(config))
    folder = HERE / "hub" / "trajectory_transformer"
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = ["TrajectoryTransformerModel"]
    config.save_pretrained(folder)
    size = config.block_size
    mask = torch.tril(torch.ones(size, size)).view(1, 1, size, size)
    mask[:, :, :, config.transition_dim - 1 :: config.transition_dim] = 0
    state = dict(model.state_dict())
    state |= {f"blocks.{layer}.attn.mask": mask for layer in range(2)}
    torch.save(state, folder / "pytorch_model.bin")
    keys = ["vocab_size", "observation_dim", "action_dim", "transition_dim", "block_size", "n_layer", "n_head", "n_embd"]
    defaults = TrajectoryTransformerConfig().to_dict()
    (folder / "defaults.json").write_text(json.dumps({key: defaults[key] for key in keys}, indent=1) + "\n")
    tokens = torch.randint(0, 11, (3, 23), generator=torch.Generator().manual_seed(6))
    tensors = {"tokens": tokens, "logits": logits(model, tokens), "authors": logits(write_authors(), tokens)}
    save("transformers_trajectory_transformer_tiny", tensors, {"transformers": transformers.__version__})


def write_authors():
    """A model whose head has the authors' width, as they save it."""
    config = TrajectoryTransformerConfig(vocab_size=10, n_embd=32, n_head=1, n_layer=1, **sizes(3, 1))
    model = fill(TrajectoryTransformerModel(config))
    authors = HERE / "hub" / "trajectory_transformer_authors"
    authors.mkdir(exist_ok=True)
    names = {name: name.replace(".l1.", ".mlp.0.").replace(".l2.", ".mlp.2.") for name in model.state_dict()}
    state = {names[name]: value for name, value in model.state_dict().items()}
    state["blocks.0.attn.mask"] = torch.ones(1, 1, config.block_size, config.block_size)
    torch.save(state, authors / "state_3.pt")
    return model


if __name__ == "__main__":
    write_sizes("hopper", sizes(11, 3))
    write_sizes("halfcheetah", sizes(17, 6))
    write_tiny()
