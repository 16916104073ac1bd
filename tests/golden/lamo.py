"""Golden numbers of LaMo: predictions, loss, gradients, ten steps, with the authors' model, freezing, optimiser and trainer; with
and without the loss on text (their --co_training).

A tiny GPT-2 of random weights is saved by transformers and loaded by the authors' code as its language model. Their trainer reads
text whether it learns from it or not.

python tests/golden/lamo.py --authors LAMO
"""

import math
import sys
import tempfile

import authors
import loralib
import numpy as np
import torch

COMMIT = "srzer/LaMo-2023@3e4fcc8"
STATE, ACTION, LAYERS, HEADS, WIDTH, CONTEXT, LONGEST, BATCH, STEPS = 5, 3, 2, 2, 16, 4, 30, 3, 10
RANK, ALPHA = 3, 7
VOCABULARY, TEXTS, TEXT_TOKENS, CO_LAMBDA = 7, 2, 9, 0.3
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1e-3, 1e-2, 3


def import_model(folder):
    """The authors' model; a decorator that newer transformers changed (it only writes docstrings) made empty."""
    import transformers.file_utils

    transformers.file_utils.add_code_sample_docstrings = lambda **_: lambda function: function
    # loralib makes its masks with a type and shapes that float64 does not disturb; gym and others are not needed.
    authors.stand_in("gym", "wandb", "timm", "timm.optim", "timm.optim.optim_factory")
    torch.cuda.amp.GradScaler = lambda: None  # their trainer makes one and never uses it
    sys.path[:] = [str(folder / "experiment-d4rl")] + [e for e in sys.path if e != str(authors.HERE)]
    import decision_transformer.models.decision_transformer as module
    import utils
    from decision_transformer.training.seq_trainer import SequenceTrainer

    return module, utils.get_optimizer, SequenceTrainer


def make_model(module):
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = dict(vocab_size=VOCABULARY, n_positions=64, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    pretrained = GPT2LMHeadModel(GPT2Config(**sizes))
    scales = {"bias": 0.1, "weight": 0.15}
    authors.perturb(pretrained, torch.Generator().manual_seed(1), scales)
    no_dropout = dict(resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, lora_dropout=0.0)
    with tempfile.TemporaryDirectory() as out:
        pretrained.save_pretrained(out)
        args = dict(
            pretrained_lm=out, lora=True, mlp_embedding=True, extend_positions=False, share_input_output_proj=False,
            dropout=0.0, learning_rate=LEARNING_RATE, lm_learning_rate=1e-5, weight_decay=WEIGHT_DECAY,
        )  # fmt: skip
        config_class = module.GPT2Config_LoRA
        original = config_class.from_pretrained
        config_class.from_pretrained = classmethod(
            lambda cls, name: original(name, lora_attn_dim=RANK, lora_attn_alpha=ALPHA, **no_dropout)
        )
        model = module.DecisionTransformer(args, STATE, ACTION, WIDTH, max_length=CONTEXT, max_ep_len=LONGEST)
        config_class.from_pretrained = original
    # What the file has is there; the low-rank additions are away from their start, where half of them is zero.
    loaded = dict(model.transformer.named_parameters())
    for name, value in pretrained.transformer.named_parameters():
        assert (loaded[name] == value).all(), name
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "transformer" not in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            elif "lora_" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    # As experiment.py does with --adapt_mode --lora --adapt_embed.
    loralib.mark_only_lora_as_trainable(model, bias="lora_only")
    for name, parameter in model.named_parameters():
        if "embed" in name or "predict" in name:
            parameter.requires_grad = True
    return model, args


def make_batch(rng):
    columns = {key: [] for key in ("states", "actions", "returns_to_go", "timesteps", "mask")}
    for length in [CONTEXT, *rng.integers(1, CONTEXT + 1, BATCH - 1)]:
        pad, start = CONTEXT - length, int(rng.integers(0, LONGEST - length + 1))
        columns["states"].append(rng.normal(size=(CONTEXT, STATE)))
        actions = np.tanh(rng.normal(size=(length, ACTION)))
        columns["actions"].append(np.concatenate([np.full((pad, ACTION), -10.0), actions]))
        columns["returns_to_go"].append(np.concatenate([np.zeros(pad), rng.uniform(0.5, 3.5, length)])[:, None])
        columns["timesteps"].append(np.concatenate([np.zeros(pad, int), np.arange(start, start + length)]))
        columns["mask"].append(np.concatenate([np.zeros(pad, int), np.ones(length, int)]))
    return {key: torch.tensor(np.stack(value)) for key, value in columns.items()}


def predict(model, batch):
    inputs = (batch[key] for key in ("states", "actions", "returns_to_go"))
    states, actions, returns = inputs
    mask = batch["mask"].double()
    return model(states, actions, None, returns, batch["timesteps"], attention_mask=mask)[1]


def run(name, authors_code, text):
    """`text` is None, or batches of tokens, one for each step, for the loss on text."""
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    module, get_optimizer, trainer_class = authors_code
    model, args = make_model(module)
    optimizer = get_optimizer(args, model)
    assert [len(group["params"]) for group in optimizer.param_groups][0] == 0  # see src/algorithms/lamo.rs
    assert optimizer.param_groups[1]["lr"] == LEARNING_RATE and optimizer.defaults["eps"] == 1e-6
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda steps: min((steps + 1) / WARMUP, 1))
    left_out = (".wpe.weight", "lm_head.weight", *(() if text else (".wte.weight",)))
    used = [n for n, _ in model.named_parameters() if not n.endswith(left_out)]
    used = [name for name in used if not name.startswith(("predict_state", "predict_return"))]
    keep = lambda tensors: {k: v for k, v in tensors.items() if k.split(".", 1)[1] in used}  # noqa: E731
    tensors = keep(authors.parameters(model, "param"))
    batches = [make_batch(rng) for _ in range(STEPS)]
    for key in batches[0]:
        tensors[f"steps.{key}"] = torch.stack([batch[key] for batch in batches])
    tensors["predictions"] = predict(model, batches[0])
    queue = list(batches)

    def get_batch(_):
        batch = queue.pop(0)
        returns = torch.cat([batch["returns_to_go"], torch.zeros(BATCH, 1, 1)], 1)  # the trainer drops the last one
        return batch["states"], batch["actions"], None, None, returns, batch["timesteps"], batch["mask"].double()

    texts = text or [torch.zeros(TEXTS, TEXT_TOKENS, dtype=torch.long)]
    texts = [{"input_ids": tokens, "labels": tokens, "attention_mask": torch.ones_like(tokens)} for tokens in texts]
    args |= {"co_training": text is not None, "co_lambda": CO_LAMBDA}
    trainer = trainer_class(
        args, model, optimizer, BATCH, get_batch, lambda s_hat, a_hat, r_hat, s, a, r: torch.mean((a_hat - a) ** 2),
        train_nlp_dataset=texts, eval_nlp_dataset=texts, scheduler=scheduler,
    )  # fmt: skip
    losses, norms, rates, clip = [], [], [], torch.nn.utils.clip_grad_norm_

    def recorded_clip(*arguments):
        if not norms:
            tensors.update(keep(authors.gradients(model)))
        rates.append(optimizer.param_groups[1]["lr"])
        norms.append(float(clip(*arguments)))

    if text:
        tensors["steps.text"] = torch.stack(text)
        language = model.transformer_model(**texts[0])
        tensors |= {"text_logits": language.logits, "text_loss": language.loss.reshape(1)}
    torch.nn.utils.clip_grad_norm_ = recorded_clip
    for _ in range(STEPS):
        losses.append(trainer.train_step())
        scheduler.step()
    torch.nn.utils.clip_grad_norm_ = clip
    tensors |= keep(authors.parameters(model, "after"))
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad and key in used:
            assert (tensors[f"param.{key}"] == tensors[f"after.{key}"]).all(), key
    tensors |= {"loss": np.array(losses[0]).reshape(1), "steps.loss": np.array(losses)}
    tensors |= {"steps.grad_norm": np.array(norms), "steps.lr": np.array(rates)}
    frozen = [n for n, p in model.named_parameters() if n in used and not p.requires_grad]
    metadata = {
        "authors": COMMIT, "state_dim": STATE, "action_dim": ACTION, "layers": LAYERS, "heads": HEADS, "width": WIDTH,
        "context": CONTEXT, "longest_episode": LONGEST, "rank": RANK, "alpha": ALPHA, "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY, "warmup_steps": WARMUP, "clip": 0.25, "eps": 1e-6, "frozen": frozen,
    }  # fmt: skip
    if text:
        metadata |= {"co_lambda": CO_LAMBDA, "vocabulary": VOCABULARY, "text_tokens": TEXT_TOKENS}
    print("losses", np.round(losses, 3), "norms", np.round(norms, 3), "frozen", len(frozen), math.isfinite(losses[-1]))
    authors.save(name, tensors, metadata)


def main():
    authors_code = import_model(authors.arguments(__doc__).authors)
    run("lamo", authors_code, None)
    rng = np.random.default_rng(8)
    run("lamo_text", authors_code, [torch.tensor(rng.integers(0, VOCABULARY, (TEXTS, TEXT_TOKENS))) for _ in range(STEPS)])


if __name__ == "__main__":
    main()
