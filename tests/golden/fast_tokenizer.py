"""Golden tokens of FAST: a tokenizer learned from chunks of actions, what it makes of others, and back.

The published algorithm (Pertsch et al. 2025; physical-intelligence/fast, processing_action_tokenizer.py), written anew with
SciPy's DCT, NumPy's rounding and the packages `tokenizers` and `transformers`.

python tests/golden/fast_tokenizer.py
"""

import json
import shutil

import authors
import numpy as np
import scipy
import tokenizers
import transformers
from scipy.fft import dct, idct
from tokenizers import ByteLevelBPETokenizer
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast


class Fast:
    """The authors' processor without its base class, which transformers 5 can't open."""

    def __init__(self, bpe, scale, vocab_size, min_token):
        self.bpe = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, clean_up_tokenization_spaces=False)
        self.scale, self.vocab_size, self.min_token = scale, vocab_size, min_token

    @classmethod
    def fit(cls, chunks, scale, vocab_size):
        coefficients = [np.around(dct(chunk, axis=0, norm="ortho").flatten() * scale) for chunk in chunks]
        smallest = int(min(c.min() for c in coefficients))
        largest = int(max(c.max() for c in coefficients))
        assert largest - smallest <= vocab_size
        texts = ["".join(map(chr, (c - smallest).astype(int))) for c in coefficients]
        bpe = ByteLevelBPETokenizer()
        trainer = BpeTrainer(
            vocab_size=vocab_size, min_frequency=2, show_progress=False, special_tokens=[], max_token_length=10000,
            initial_alphabet=[chr(code) for code in range(largest - smallest + 1)],
        )  # fmt: skip
        bpe._tokenizer.train_from_iterator(texts, trainer=trainer)
        return cls(bpe, scale, vocab_size, smallest)

    def encode(self, chunk):
        coefficients = np.around(dct(chunk, axis=0, norm="ortho") * self.scale)
        text = "".join(map(chr, np.maximum(coefficients.flatten() - self.min_token, 0).astype(int)))
        return self.bpe(text)["input_ids"]

    def decode(self, tokens, steps, dims):
        """The chunk, and whether the tokens stand for one."""
        try:
            text = self.bpe.decode(tokens)
            coefficients = (np.array(list(map(ord, text))) + self.min_token).reshape(-1, dims)
            assert coefficients.shape == (steps, dims)
        except Exception:
            return np.zeros((steps, dims)), False
        return idct(coefficients / self.scale, axis=0, norm="ortho"), True


def smooth(rng, steps, dims):
    """A chunk as actions are: correlated in time, mostly in ±1, with a few saturated steps."""
    noise = rng.normal(size=(steps + 4, dims))
    chunk = sum(noise[shift : shift + steps] for shift in range(5)) * 0.3 + 0.3 * rng.normal(size=dims)
    return np.clip(chunk, -1.2, 1.2)


def write_folder(fast, folder):
    """The files of the authors' repository on the Hub."""
    shutil.rmtree(folder, ignore_errors=True)
    fast.bpe.save_pretrained(folder)
    keys = {
        "action_dim": None, "auto_map": {"AutoProcessor": "processing_action_tokenizer.UniversalActionProcessor"},
        "min_token": fast.min_token, "processor_class": "UniversalActionProcessor", "scale": fast.scale,
        "time_horizon": None, "vocab_size": fast.vocab_size,
    }  # fmt: skip
    (folder / "processor_config.json").write_text(json.dumps(keys, indent=2) + "\n")
    for extra in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / extra).unlink(missing_ok=True)


def run(name, scale, vocab_size, steps, dims, count, seed):
    rng = np.random.default_rng(seed)
    chunks = np.stack([smooth(rng, steps, dims) for _ in range(count)])
    # As stored numbers are.
    chunks = chunks.astype(np.float32).astype(np.float64)
    fast = Fast.fit(list(chunks), scale, vocab_size)
    write_folder(fast, authors.HERE / name)
    tensors = {"train": chunks}
    cases = []

    def case(what, chunk):
        tokens = fast.encode(chunk)
        decoded, valid = fast.decode(tokens, *chunk.shape)
        at = len(cases)
        tensors[f"case{at}.chunk"], tensors[f"case{at}.tokens"] = chunk, np.array(tokens)
        tensors[f"case{at}.decoded"] = decoded
        cases.append({"what": what, "valid": valid})

    for action_dim in (1, 3, 7):
        for horizon in (8, 10, 25, 50):
            case(f"T = {horizon}, A = {action_dim}", smooth(rng, horizon, action_dim).astype(np.float32).astype(np.float64))
    case("below the smallest coefficient", np.full((steps, dims), -9.0))
    case("above the largest coefficient", np.full((steps, dims), 9.0))
    case("nothing moves", np.zeros((steps, dims)))
    # Halves: a chunk of one step is its own transform. Only those that SciPy's factors leave exact.
    wanted = np.arange(fast.min_token, -fast.min_token) + 0.5
    halves = wanted / scale
    exact = halves[(dct(halves[None], axis=0, norm="ortho")[0] * scale == wanted) & (halves * scale == wanted)]
    up = np.around(exact * scale) > exact * scale
    assert up.sum() > 3 and (~up).sum() > 3, exact * scale
    case("halves", exact[None])

    broken = []
    first = fast.encode(chunks[0])
    for what, tokens in (
        ("one token less", first[:-1]), ("one token more", first + first[:1]), ("none", []),
        ("a token that there is not", first[:-1] + [vocab_size + 5]),
    ):  # fmt: skip
        decoded, valid = fast.decode(tokens, steps, dims)
        at = len(broken)
        tensors[f"broken{at}.tokens"] = np.array(tokens + [2**31])  # a mark, since no tensor is empty
        tensors[f"broken{at}.decoded"] = decoded
        broken.append({"what": what, "valid": valid})
    per_step = np.mean([len(fast.encode(chunk)) for chunk in chunks]) / steps
    print(name, "smallest", fast.min_token, "tokens", len(fast.bpe), "per step", round(per_step, 2), "valid",
          [c["valid"] for c in cases], [b["valid"] for b in broken])  # fmt: skip
    metadata = {
        "cases": cases, "broken": broken, "steps": steps, "dims": dims, "scale": scale, "vocab_size": vocab_size,
        "min_token": fast.min_token, "tokens": len(fast.bpe), "scipy": scipy.__version__,
        "tokenizers": tokenizers.__version__, "transformers": transformers.__version__,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    # Coefficients of one byte; and of two, where characters can break.
    run("fast_tokenizer", 10, 512, 8, 3, 300, seed=1)
    run("fast_tokenizer_fine", 40, 1024, 10, 2, 200, seed=2)
