"""Golden numbers of what is around the networks of kzl's gym Decision Transformer and of LaMo: episodes from flat data,
statistics of observations, batches, and episodes acted out.

The authors' own `experiment` runs: it reads the pickle that kzl's own script made of D4RL-like arrays, makes its model, and
hands `get_batch` and its evaluation to a trainer. That trainer is ours: it draws batches and evaluates. The environment is a
small linear one. `experiment` knows four environments by name; `reacher2d` has the shortest episodes, 100 steps.

python tests/golden/return_conditioned.py --authors DECISION_TRANSFORMER --lamo LAMO
(one of the two per process, since both packages are called `decision_transformer`: without --lamo kzl's, with it LaMo's)
"""

import contextlib
import functools
import os
import runpy
import sys
import tempfile
import types

import authors
import numpy as np
import torch

COMMITS = {
    "dt": "kzl/decision-transformer@e2d82e68f330c00f763507b3b01d774740bee53f",
    "lamo": "srzer/LaMo-2023@3e4fcc8",
}
STATE, ACTION, CONTEXT, BATCHES, BATCH = 4, 2, 6, 4, 8
LONGEST, SCALE = 100, 10.0  # of reacher2d in experiment.py
# Steps of the episodes in turn: longer than the longest, one step, shorter and longer than the context.
EPISODES = [23, 110, 1, 5, 60, 6, 100, 3, 41, 12]
UNFINISHED = 9
# After so many steps the episodes that are acted out end; those of 1000 are stopped at the longest.
ENDS = {"dt": [17, 1000, 4, 1000], "lamo": [17, 1000, 4, 6, 1, 9, 5, 1000, 3, 2]}


def f32(x):
    """Rounded to single precision, which the tests' data sets and policies have."""
    return np.asarray(x, np.float32).astype(np.float64)


def flat_data(rng):
    """Arrays as D4RL has them; every third episode ends with a terminal, the others with a timeout."""
    steps = sum(EPISODES) + UNFINISHED
    data = {
        "observations": f32(rng.normal(size=(steps, STATE)) * [0.5, 3.0, 1.0, 20.0] + [0.0, -2.0, 7.0, 1.0]),
        "actions": f32(np.tanh(rng.normal(size=(steps, ACTION)))),
        "rewards": f32(rng.normal(0.7, 1.0, steps)),
        "terminals": np.zeros(steps, bool),
        "timeouts": np.zeros(steps, bool),
    }
    data["next_observations"] = data["observations"]
    for index, end in enumerate(np.cumsum(EPISODES) - 1):
        data["terminals" if index % 3 == 0 else "timeouts"][end] = True
    return data


class Environment:
    """A linear system that remembers what it was shown and what it answered."""

    observation_space = types.SimpleNamespace(shape=(STATE,))
    action_space = types.SimpleNamespace(shape=(ACTION,))

    def __init__(self, ends):
        self.ends, self.rng = ends, np.random.default_rng(7)
        self.drift = self.rng.normal(size=(STATE, STATE)) * 0.3
        self.push = self.rng.normal(size=(ACTION, STATE))
        self.episodes = []

    def get_normalized_score(self, score):
        return score

    def reset(self):
        self.state = f32(self.rng.normal(size=STATE) * [0.5, 3.0, 1.0, 20.0] + [0.0, -2.0, 7.0, 1.0])
        self.episodes.append({"observations": [self.state], "actions": [], "rewards": [], "inputs": []})
        return self.state

    def step(self, action):
        episode = self.episodes[-1]
        # Some noise decides more than the action, so that no small difference grows.
        noise = self.rng.normal(size=STATE) * [0.5, 3.0, 1.0, 20.0]
        self.state = f32(0.3 * self.state @ self.drift + action @ self.push + noise)
        reward = float(f32(self.rng.normal(0.7, 1.0)))
        episode["actions"].append(np.array(action))
        episode["rewards"].append(reward)
        episode["observations"].append(self.state)
        return self.state, reward, len(episode["rewards"]) == self.ends[len(self.episodes) - 1], {}


class Draws:
    """Stands for `random` and `np.random` in experiment.py and remembers what get_batch draws."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.trajectories, self.starts = [], []

    def randint(self, low, high):
        if high > 10_000:  # a number for the name of the experiment
            return low
        self.starts.append(int(self.rng.integers(low, high + 1)))
        return self.starts[-1]

    def choice(self, values, size, replace, p):
        assert replace
        self.trajectories.append(self.rng.choice(values, size=size, p=p))
        return self.trajectories[-1]


@contextlib.contextmanager
def folder_of_data(kzl, data):
    """A working directory with the pickle of kzl's own script, under the names under which `experiment` looks for it."""
    environment = types.SimpleNamespace(get_dataset=lambda: data)
    sys.modules["gym"].make = lambda name: environment
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        runpy.run_path(str(kzl / "gym" / "data" / "download_d4rl_datasets.py"))
        for place in ("data", "../data/mujoco"):
            os.makedirs(os.path.join(folder, "work", place))
            os.link("hopper-medium-v2.pkl", os.path.join(folder, "work", place, "reacher2d-medium-v2.pkl"))
        os.chdir("work")
        yield os.path.join(folder, "work")
        os.chdir(before)


def record(trainer_arguments, environment, draws, perturb):
    """What our trainer does: batches, then the evaluation of every target. Returns tensors."""
    get_batch, model = trainer_arguments["get_batch"], trainer_arguments["model"]
    perturb(model)
    closure = dict(zip(get_batch.__code__.co_freevars, (cell.cell_contents for cell in get_batch.__closure__)))
    # Before the evaluation, for which LaMo's code adds the low-rank parts to the weights.
    tensors = authors.parameters(model, "param") | {
        "state_mean": closure["state_mean"],
        "state_std": closure["state_std"],
        "trajectory_lengths": np.array([len(path["rewards"]) for path in closure["trajectories"]]),
        "chosen": closure["sorted_inds"],
        "probabilities": closure["p_sample"],
    }
    batches = [get_batch(BATCH) for _ in range(BATCHES)]
    names = ("states", "actions", "rewards", "dones", "returns_to_go", "timesteps", "mask")
    for name, column in zip(names, zip(*batches)):
        if name not in ("rewards", "dones"):
            tensors[f"batches.{name}"] = torch.stack(column)
    # The trainers leave out the last return.
    tensors["batches.returns_to_go"] = tensors["batches.returns_to_go"][:, :, :-1]
    tensors["batches.mask"] = tensors["batches.mask"].long()
    tensors["batches.trajectories"] = closure["sorted_inds"][np.stack(draws.trajectories)]
    tensors["batches.starts"] = np.array(draws.starts).reshape(BATCHES, BATCH)

    forward = model.forward

    def recorded_forward(states, actions, rewards, returns_to_go, timesteps, attention_mask=None, **rest):
        inputs = {"states": states, "actions": actions, "returns_to_go": returns_to_go, "timesteps": timesteps}
        inputs["mask"] = attention_mask
        environment.episodes[-1]["inputs"].append({key: value[0].clone() for key, value in inputs.items()})
        return forward(states, actions, rewards, returns_to_go, timesteps, attention_mask=attention_mask, **rest)

    model.forward = recorded_forward
    for evaluate in trainer_arguments["eval_fns"]:
        print({key: value for key, value in evaluate(model).items() if "video" not in key})
    model.forward = forward
    for index, episode in enumerate(environment.episodes):
        prefix = f"episode{index}."
        tensors[f"{prefix}observations"] = np.stack(episode["observations"][:-1])
        tensors[f"{prefix}rewards"] = np.array(episode["rewards"])
        tensors[f"{prefix}actions"] = np.stack(episode["actions"])
        for key in episode["inputs"][0]:
            tensors[f"{prefix}input.{key}"] = torch.stack([step[key] for step in episode["inputs"]])
    return tensors


def prepare(folder, experiment_folder):
    """Stand-ins, and the authors' package and experiment.py as a module."""
    import transformers.file_utils

    authors.stand_in("gym", "d4rl", "wandb", "imageio", "cv2", "moviepy", "moviepy.editor", "get_nlp_datasets")
    authors.stand_in("timm", "timm.optim", "timm.optim.optim_factory")
    sys.path[:] = [str(folder / experiment_folder)] + [entry for entry in sys.path if entry != str(authors.HERE)]
    transformers.file_utils.add_code_sample_docstrings = lambda **_: lambda function: function
    import decision_transformer.evaluation.evaluate_episodes as evaluation
    import decision_transformer.models.decision_transformer as model

    sys.modules["decision_transformer.envs"] = types.ModuleType("decision_transformer.envs")
    environments = types.ModuleType("decision_transformer.envs.reacher_2d")
    sys.modules["decision_transformer.envs.reacher_2d"] = environments
    import experiment

    experiment.get_dataset = lambda **_: (None, None)  # of text; LaMo's
    # They cast to float32 by name; here that name means float64.
    double = authors.Shim(torch, float32=torch.float64)
    model.torch = evaluation.torch = experiment.torch = double
    return experiment, environments, model


def variant():
    """Values of experiment.py's flags that matter here; all small."""
    return {
        "env": "reacher2d", "dataset": "medium", "model_type": "dt", "mode": "normal", "K": CONTEXT, "pct_traj": 1.0,
        "batch_size": BATCH, "num_eval_episodes": 2, "device": "cpu", "log_to_wandb": False, "embed_dim": 16,
        "n_layer": 1, "n_head": 2, "activation_function": "relu", "dropout": 0.0, "learning_rate": 1e-3,
        "weight_decay": 1e-2, "warmup_steps": 3, "max_iters": 1, "num_steps_per_iter": 1,
    }  # fmt: skip


def run(which, kzl, folder, experiment_folder, settings, around=None):
    torch.manual_seed(5)
    experiment, environments, model_module = prepare(folder, experiment_folder)
    data, environment, draws, kept = flat_data(np.random.default_rng(3)), Environment(ENDS[which]), Draws(11), {}
    environments.Reacher2dEnv = lambda: environment
    experiment.random = draws
    experiment.np = authors.Shim(np, random=draws)
    generator = torch.Generator().manual_seed(2)

    def perturb(model):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
                if which == "lamo" and name == "predict_action.fc2.weight":
                    parameter *= 0.3  # LaMo's head has no tanh: here it stays within the range of actions

    class Trainer:
        def __init__(self, **arguments):
            self.arguments = arguments

        def train_iteration(self, **_):
            kept.update(record(self.arguments, environment, draws, perturb))
            return {"time/training": 0.0}

    experiment.SequenceTrainer = Trainer
    if which == "dt":  # a size of the configuration that newer transformers don't have
        experiment.DecisionTransformer = functools.partial(experiment.DecisionTransformer, n_ctx=1024)
    with folder_of_data(kzl, data), around(model_module) if around else contextlib.nullcontext({}) as more:
        experiment.experiment("golden", variant() | settings | more)
    chosen, starts = kept["batches.trajectories"], kept["batches.starts"]
    beyond = (starts > LONGEST - CONTEXT) & (chosen == np.argmax(EPISODES))
    assert beyond.any() or which == "lamo", "no time step beyond the table"
    assert np.abs(kept["episode1.actions"]).max() < 1 and len(kept["episode1.rewards"]) == LONGEST
    tensors = kept | {f"raw.{key}": value for key, value in data.items() if key != "next_observations"}
    unused = ("transformer.wte", "transformer_model.transformer.w", "transformer_model.lm_head", "predict_s", "predict_r")
    tensors = {key: value for key, value in tensors.items() if not key.startswith(tuple(f"param.{u}" for u in unused))}
    metadata = {
        "authors": COMMITS[which], "state_dim": STATE, "action_dim": ACTION, "context": CONTEXT, "longest_episode": LONGEST,
        "return_scale": SCALE, "targets": [76.0, 40.0], "episodes_per_target": len(ENDS[which]) // 2, "layers": 1, "heads": 2, "width": 16,
        "rank": 16, "alpha": 32, "episodes": EPISODES, "unfinished": UNFINISHED,
    }  # fmt: skip
    authors.save(f"return_conditioned_{which}", tensors, metadata)


@contextlib.contextmanager
def tiny_gpt2(module):
    """A random GPT-2 in a folder, as the language model that LaMo's code loads."""
    from transformers import GPT2Config, GPT2LMHeadModel

    small = dict(vocab_size=7, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    pretrained = GPT2LMHeadModel(GPT2Config(**small))
    original = module.GPT2Config_LoRA.from_pretrained
    off = dict(resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, lora_dropout=0.0)
    module.GPT2Config_LoRA.from_pretrained = classmethod(lambda cls, name: original(name, **off))
    with tempfile.TemporaryDirectory() as out:
        pretrained.save_pretrained(out)
        yield {"pretrained_lm": out, "outdir": out}


def main():
    args = authors.arguments(__doc__, lamo="checkout of LaMo-2023: make its file instead")
    if not args.lamo:
        return run("dt", args.authors, args.authors, "gym", {})
    flags = {flag: True for flag in ("adapt_mode", "lora", "adapt_embed", "mlp_embedding")}
    others = ("only_adapt_last_two_blocks", "adapt_last_two_blocks", "adapt_ln", "adapt_attn", "adapt_ff", "adapt_wte",
              "adapt_wpe", "extend_positions", "share_input_output_proj", "fp16", "visualize", "co_training")  # fmt: skip
    flags |= {flag: False for flag in others}
    flags |= {"seed": 5, "sample_ratio": 1.0, "data_suffix": "d1", "description": "", "lm_learning_rate": None}
    flags |= {"num_eval_episodes": 5, "co_lambda": 0.1, "nlp_dataset_name": "", "nlp_dataset_config_name": ""}
    torch.cuda.amp.GradScaler = lambda: None
    run("lamo", args.authors, args.lamo, "experiment-d4rl", flags, around=tiny_gpt2)


if __name__ == "__main__":
    main()
