"""A tiny GPT-2 as `transformers` saves it, and its hidden states.

python tests/golden/transformers_gpt2.py

Writes hub/gpt2/ (GPT2Model: no prefix, safetensors), hub/gpt2_head/ (GPT2LMHeadModel: `transformer.` before every name, a
pickle with the old mask buffers), hub/gpt2_old/ (the same in PyTorch's format of old) and transformers_gpt2.safetensors. Run with transformers 5.24.0, torch 2.15.0.
"""

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

from authors import HERE, save

torch.set_num_threads(1)

if __name__ == "__main__":
    torch.manual_seed(7)
    config = GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    model.transformer.save_pretrained(HERE / "hub" / "gpt2")
    folder = HERE / "hub" / "gpt2_head"
    config.save_pretrained(folder)
    state = dict(model.state_dict())
    for layer in range(2):
        state[f"transformer.h.{layer}.attn.bias"] = torch.tril(torch.ones(32, 32, dtype=torch.uint8)).view(1, 1, 32, 32)
        state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, folder / "pytorch_model.bin")
    # What torch.save wrote before version 1.6; one matrix lies column after column, one behind another in a storage.
    folder = HERE / "hub" / "gpt2_old"
    config.save_pretrained(folder)
    first, second = "transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_fc.weight"
    state[first] = state[first].t().contiguous().t()
    state[second] = torch.cat([torch.zeros(1, 64), state[second]])[1:]
    state["transformer.h.0.attn.masked_bias"] = state["transformer.h.0.attn.masked_bias"].half()
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    tokens = torch.randint(0, 40, (3, 12))
    mask = torch.ones(3, 12, dtype=torch.long)
    mask[1, :5] = 0
    embeddings = torch.randn(2, 9, 16)
    with torch.no_grad():
        plain = model.transformer(tokens, attention_mask=mask).last_hidden_state
        # As the Decision Transformer uses it: embeddings of its own, position 0 for all.
        positions = torch.zeros(2, 9, dtype=torch.long)
        embedded = model.transformer(inputs_embeds=embeddings, position_ids=positions).last_hidden_state
    tensors = {"tokens": tokens, "mask": mask, "hidden": plain.double(), "embeddings": embeddings.double(), "embedded": embedded.double()}
    save("transformers_gpt2", tensors, {"transformers": transformers.__version__})
