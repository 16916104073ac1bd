"""Makes tests/golden/text: a tiny BERT and a tiny GPT-2 with their tokenizers, sentence embeddings, and data sets with
instructions.

The reference code writes and computes everything: transformers (models, WordPiece and byte-level BPE, hidden states),
minari and h5py. `--models` makes the models and their embeddings alone. Random weights; the embeddings are the mean over tokens with
attention, scaled to length 1, and `words` the same mean of the network's input embeddings, without special tokens.

    pip install torch transformers minari[hdf5]==0.5.4 h5py numpy
    python tests/golden/text.py
"""

import json
import os
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).parent / "text"
if "--models" not in sys.argv:
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
os.environ["MINARI_DATASETS_PATH"] = str(HERE)

import gymnasium as gym  # noqa: E402
import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402
from transformers import BertConfig, BertModel, BertTokenizerFast  # noqa: E402
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast  # noqa: E402

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


def words(tokenizer, model, longest):
    """The mean word, of length 1, of every sentence."""
    found = []
    for sentence in SENTENCES:
        ids = tokenizer(sentence, add_special_tokens=False, truncation=True, max_length=longest, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            mean = model.get_input_embeddings()(ids).mean(1)
        found.append(torch.nn.functional.normalize(mean, dim=1)[0].tolist())
    return found


def encoder():
    folder = HERE / "bert"
    shutil.rmtree(folder, ignore_errors=True)
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
    found = {"sentences": SENTENCES, "embeddings": embeddings.tolist(), "words": words(tokenizer, model, LONGEST)}
    (HERE / "embeddings.json").write_text(json.dumps(found))
    print("tokens", tokens["attention_mask"].sum(1).tolist(), "similarities", (embeddings @ embeddings.T)[0].tolist())


def language_model():
    folder = HERE / "gpt2"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(SENTENCES, trainer)
    bpe.save(str(folder / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=300, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    model = GPT2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    model = model.double()
    embeddings = []
    with torch.no_grad():
        for sentence in SENTENCES:
            tokens = tokenizer(sentence, truncation=True, max_length=16, return_tensors="pt")["input_ids"]
            mean = model(tokens).last_hidden_state.mean(1)
            embeddings.append(torch.nn.functional.normalize(mean, dim=1)[0].tolist())
            print(sentence, tokens.shape[1])
    found = {"sentences": SENTENCES, "embeddings": embeddings, "words": words(tokenizer, model, 16)}
    (HERE / "gpt2_embeddings.json").write_text(json.dumps(found))


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
    import minari
    from minari.data_collector import EpisodeBuffer

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


language_model()
encoder()
if "--models" in sys.argv:
    sys.exit()
files()
missions()
for path in sorted(HERE.rglob("*")):
    if path.is_file():
        print(path.relative_to(HERE), path.stat().st_size)
