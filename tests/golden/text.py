"""Makes tests/golden/text: a tiny BERT with its tokenizer, sentence embeddings, and data sets with instructions.

The reference code writes and computes everything: transformers (model, WordPiece tokenizer, hidden states), minari and
h5py. Random weights; the embeddings are the mean over tokens with attention, scaled to length 1.

    pip install torch transformers minari[hdf5]==0.5.4 h5py numpy
    python tests/golden/text.py
"""

import json
import os
import pathlib
import shutil

HERE = pathlib.Path(__file__).parent / "text"
shutil.rmtree(HERE, ignore_errors=True)
HERE.mkdir()
os.environ["MINARI_DATASETS_PATH"] = str(HERE)

import gymnasium as gym  # noqa: E402
import h5py  # noqa: E402
import minari  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402
from transformers import BertConfig, BertModel, BertTokenizerFast  # noqa: E402

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] go to the upper lower left right room move head for top bottom corner of maze is "
    "your goal north south west east ##ern walk run ##ning ##ward ##s . , ! in a h ##e ##re"
).split()
LONGEST = 12
SENTENCES = [
    "go to the upper left room",
    "Go to the LOWER right room!",
    "walk northward, then here",
    "running",
    "the room is in the west of the maze, in a corner of the maze, in a corner of the maze",
    "Zürich",
]


def encoder():
    folder = HERE / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    assert len(tokenizer) == len(WORDS) and tokenizer.tokenize("running") == ["run", "##ning"]
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
        model.embeddings.word_embeddings.weight *= 5
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": LONGEST}))
    torch.save(model.state_dict(), HERE / "pytorch_model.bin")
    model = model.double()
    tokens = tokenizer(SENTENCES, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(2).double()
    mean = (hidden * mask).sum(1) / mask.sum(1)
    embeddings = torch.nn.functional.normalize(mean, dim=1)
    found = {"sentences": SENTENCES, "embeddings": embeddings.tolist()}
    (HERE / "embeddings.json").write_text(json.dumps(found))
    print("tokens", tokens["attention_mask"].sum(1).tolist(), "similarities", (embeddings @ embeddings.T)[0].tolist())


EPISODES = [("go left", 3), ("", 2), ("geh nach links, süß", 4), ("go left", 2)]
STEPS = sum(steps for _, steps in EPISODES)


def arrays():
    ends = np.zeros(STEPS, bool)
    ends[np.cumsum([steps for _, steps in EPISODES]) - 1] = True
    return {
        "observations": np.arange(2.0 * STEPS, dtype=np.float32).reshape(-1, 2),
        "actions": np.linspace(-1, 1, STEPS, dtype=np.float32).reshape(-1, 1),
        "rewards": np.ones(STEPS, np.float32),
        "terminals": np.zeros(STEPS, bool),
        "timeouts": ends,
    }


def files():
    texts = [text for text, _ in EPISODES]
    np.savez(HERE / "instructions.npz", instructions=np.array(texts), **arrays())
    with h5py.File(HERE / "instructions.hdf5", "w") as file:
        for name, values in arrays().items():
            file.create_dataset(name, data=values)
        file.create_dataset("instructions", data=texts, dtype=h5py.string_dtype("utf-8"))


def missions():
    """Observations that are dictionaries of a vector and a text, as minari stores BabyAI's; only episodes with one."""
    box = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    space = gym.spaces.Dict(state=box, mission=gym.spaces.Text(100))
    values, buffers, start = arrays(), [], 0
    for number, (text, steps) in enumerate(EPISODES):
        rows = range(start, start + steps)
        states = np.concatenate([values["observations"][rows], [[-1.0, number]]]).astype(np.float32)
        flags = [False] * (steps - 1) + [True]
        buffers.append(
            EpisodeBuffer(
                id=number, seed=number, observations={"state": states, "mission": [text or "stay"] * (steps + 1)},
                actions=values["actions"][rows], rewards=[1.0] * steps, terminations=[False] * steps,
                truncations=flags, infos=None,
            )
        )  # fmt: skip
        start += steps
    minari.create_dataset_from_buffers(
        "missions-v0", buffers, observation_space=space, action_space=gym.spaces.Box(-1, 1, (1,), np.float32),
        author="A", author_email="a@b", code_permalink="c", algorithm_name="d",
    )  # fmt: skip
    for path in HERE.glob("namespace_metadata.json"):
        path.unlink()


encoder()
files()
missions()
for path in sorted(HERE.rglob("*")):
    if path.is_file():
        print(path.relative_to(HERE), path.stat().st_size)
