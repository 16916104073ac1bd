"""Golden numbers of learning online: the authors' and CORL's own programs for fine-tuning, from their first line to their last.

python tests/golden/online.py --authors CORL --calql CALQL --d4rl D4RL

Their `train` (CORL) and `main` (Cal-QL) run as they are: updates on the data, steps in an environment, updates on both. A small environment
stands in for D4RL's (linear dynamics, episodes that end or are broken off where the script below says), whose data set goes through
D4RL's own `qlearning_dataset` or the authors' copy of it. Random numbers (NumPy's row numbers, sorted, and all normals and uniforms) are
recorded where they are drawn.

| run | program | |
|---|---|---|
| `awac` | corl-team/CORL @ eeeeef2671235fcce3a3eb255576a207d78840e6, algorithms/finetune/awac.py | uniform over data and steps |
| `iql`, `iql_deterministic` | the same, iql.py | uniform; without its cosine, as the authors fine-tune (antmaze_finetune_config.py) |
| `cql` | the same, cql.py | uniform; Lagrange, largest target |
| `rebrac`, `rebrac_other` | the same, rebrac.py, in JAX | half of each batch; the second with an odd batch, other shares and exploration |
| `cal_ql`, `cal_ql_other` | nakamotoo/Cal-QL @ ac6eafec22e8d60836573e1f488c7f626ce8a77e, JaxCQL/conservative_sac_main.py, in JAX | the second with an odd batch, another share, no Lagrange |

Changed in them: numbers are float64 where they are float32 (parameters, and what is computed from them; data and collected steps are rounded to
float32 all the same, and no product of them is); layers have 16 units; parameters start perturbed, so that no layer is tiny; AWAC's observations are not
normalised, as those of the other runs. Cal-QL evaluates its losses once for each network, with new random numbers each time; here each gets the same.

T online steps, U updates (the offline ones first), B rows in a batch, O = 5, A = 3.

| tensor | shape |
|---|---|
| `data.{observations,actions,rewards,terminals,timeouts}` | [N, ..]: the raw data set, all runs' |
| `RUN.steps.{observations,actions,next_observations,rewards,terminated,truncated}` | [T, ..]: what was seen, done and given; rewards are the environment's |
| `RUN.steps.normals` | [T, A]: standard normals of the exploration |
| `RUN.batches.{observations,actions,rewards,next_observations,terminated}` | [U, B, ..]: what was learned from; `reached` of Cal-QL |
| `RUN.rows` | [U, B] U32: of the data, or `data_rows` + the step's number |
| `RUN.noise.NAME` | [U, ..]: as in the files of the methods |
| `RUN.start.NETWORK.PARAM`, `RUN.after...`, `RUN.metric.NAME` | as value_based.py says; [U] or fewer |

The metadata has each run's constants, `offline` updates, `data_rows`, and `data_share`: rows of the data in each online batch, or null where chance decides.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
import types

import authors
import awac
import cql
import flax_networks as flax
import iql
import jax
import numpy as np
import torch
import value_based as common

jax.config.update("jax_enable_x64", True)

OBSERVATION, ACTION, OFFLINE, LIMIT = 5, 3, 3, 6
# Steps and end of each episode: at a goal, or (None) at the time limit.
DATA_EPISODES = [(5, "goal"), (6, None), (3, "goal"), (6, None), (4, "goal"), (6, None)]
ONLINE_EPISODES = [(4, "goal"), (6, None), (3, "goal"), (6, None)]


class Dynamics:
    """The stand-in's states, actions in and float32 out; rewards are 1 at a goal, 0.5 at times on the way to one, else 0."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.push = self.rng.normal(size=(ACTION, OBSERVATION))

    def start(self):
        return self.rng.normal(size=OBSERVATION).astype(np.float32)

    def next(self, observation, action):
        state = 0.8 * observation.astype(np.float64) + 0.4 * action.astype(np.float64) @ self.push
        return (state + 0.2 * self.rng.normal(size=OBSERVATION)).astype(np.float32)

    @staticmethod
    def reward(step, steps, end):
        return 0.0 if end is None else 1.0 if step == steps - 1 else 0.5 * (step % 2)


def make_data(seed):
    """The raw data set, as D4RL's files have it."""
    dynamics, rows = Dynamics(seed), []
    for steps, end in DATA_EPISODES:
        observation = dynamics.start()
        for step in range(steps):
            action = (0.9 * np.tanh(dynamics.rng.normal(size=ACTION))).astype(np.float32)
            last = step == steps - 1
            rows.append((observation, action, dynamics.reward(step, steps, end), last and end == "goal", last and end is None))
            observation = dynamics.next(observation, action)
    columns = [np.array(column) for column in zip(*rows)]
    names = "observations", "actions", "rewards", "terminals", "timeouts"
    return dict(zip(names, columns)) | {"rewards": columns[2].astype(np.float32)}


class Space:
    def __init__(self, size):
        self.shape, self.dtype, self.high, self.low = (size,), np.float32, np.ones(size), -np.ones(size)

    def seed(self, _):
        pass


class Environment:
    """What `gym.make` gives; `record` is told of each step of the environment that is trained in."""

    ref_min_score = 0.0

    def __init__(self, name, data, record):
        self.data, self.record, self.dynamics, self.episode, self.limited = data, record, Dynamics(7), -1, True
        self.observation_space, self.action_space, self._max_episode_steps = Space(OBSERVATION), Space(ACTION), LIMIT
        self.spec = types.SimpleNamespace(name=name.rsplit("-", 1)[0], max_episode_steps=LIMIT)

    @property
    def unwrapped(self):
        self.limited = False
        return self

    def seed(self, _):
        pass

    def get_dataset(self, **_):
        return {name: column.copy() for name, column in self.data.items()}

    def get_normalized_score(self, value):
        return value

    def reset(self):
        self.episode, self.step_number = self.episode + 1, 0
        self.observation = self.dynamics.start()
        return self.observation.copy()

    def step(self, action):
        steps, end = ONLINE_EPISODES[self.episode % len(ONLINE_EPISODES)]
        action = np.asarray(action).astype(np.float32)
        reward = self.dynamics.reward(self.step_number, steps, end)
        following = self.dynamics.next(self.observation, action)
        self.step_number += 1
        goal, late = self.step_number == steps and end == "goal", self.step_number == LIMIT
        if self.record:
            self.record.step(self.observation, action, following, reward, goal, late and not goal)
        self.observation = following
        info = {"TimeLimit.truncated": True} if late and self.limited and not goal else {}
        return following.copy(), reward, goal or (late and self.limited), info


class Record(common.Run):
    """Everything of one run: draws between `begin` and `end` are the update's, the last ones before a step its exploration's."""

    def __init__(self, name, names, repeats=None):
        super().__init__(name)
        self.rng = np.random.default_rng(abs(len(name) * 1000 + sum(map(ord, name))))
        self.names, self.repeats = names, repeats
        self.steps, self.batches, self.rows, self.noise, self.loose = {}, {}, [], {}, []
        self.update, self.taken, self.indices = None, 0, []

    def draw(self, kind, shape):
        """A draw; with `repeats` an update gets the same so many again and again."""
        draw = lambda: self.rng.normal(size=shape) if kind == "normal" else self.rng.uniform(size=shape)
        if self.update is None:
            self.loose.append(draw())
            return self.loose[-1]
        if self.repeats and len(self.update) == self.repeats:
            found = self.update[self.taken % self.repeats][1]
            self.taken += 1
            assert found.size == np.prod(shape), (found.shape, shape)
            return found.reshape(shape)
        self.update.append((kind, draw()))
        self.taken += 1
        return self.update[-1][1]

    def randint(self, low, high=None, size=None):
        """Row numbers, in order."""
        low, high = (0, low) if high is None else (low, high)
        found = np.sort(self.rng.integers(low, high, size=size))
        self.indices.append(found)
        return found

    def step(self, observation, action, following, reward, terminated, truncated):
        row = {
            "observations": observation, "actions": action, "next_observations": following, "rewards": reward,
            "terminated": terminated, "truncated": truncated,
        }  # fmt: skip
        drawn = [draw for draw in self.loose if draw.size == ACTION]
        row["normals"] = drawn[0].reshape(ACTION) if drawn else np.zeros(ACTION)
        self.loose.clear()
        for name, value in row.items():
            self.steps.setdefault(name, []).append(np.asarray(value, np.float64))

    def begin(self, batch, data_rows):
        """An update begins; the row numbers drawn last are its own."""
        mine = self.indices if len(self.indices) == 1 else [self.indices[0], self.indices[1] + data_rows]
        self.rows.append(np.concatenate(mine))
        self.indices = []
        for name, value in batch.items():
            self.batches.setdefault(name, []).append(np.asarray(value, np.float64))
        self.loose.clear()
        self.update, self.taken = [], 0

    def end(self, **log):
        for name, (_, draw) in zip(self.names, self.update):
            if name:
                rows = len(self.rows[0])
                shape = [size for size in draw.shape if size != 1 or draw.shape == (1,)]
                assert rows in shape, (name, draw.shape)
                self.noise.setdefault(name, []).append(draw.reshape(shape))
        self.update = None
        self.log(**log)

    def finish(self):
        tensors = super().finish()
        for kind, columns in (("steps", self.steps), ("batches", self.batches), ("noise", self.noise)):
            tensors |= {f"{self.name}.{kind}.{name}": np.stack(rows) for name, rows in columns.items()}
        tensors[f"{self.name}.rows"] = np.stack(self.rows)
        return {name: value.numpy() if torch.is_tensor(value) else value for name, value in tensors.items()}


def gym_of(data, record, trained):
    """A stand-in of the module gym; the environment made as number `trained` is the one that is trained in."""
    made = []

    def make(name):
        made.append(name)
        return Environment(name, data, record if len(made) - 1 == trained else None)

    wrappers = types.SimpleNamespace(TransformObservation=lambda env, _: env)
    spaces = types.SimpleNamespace(Box=Space)
    return types.SimpleNamespace(make=make, wrappers=wrappers, Env=object, spaces=spaces)


@contextlib.contextmanager
def torch_draws(record):
    """Draws of PyTorch are the record's, and what asks for float32 gets float64."""
    distribution = torch.distributions.normal
    saved = distribution._standard_normal, torch.normal, torch.randn_like, torch.Tensor.uniform_, torch.Tensor.float
    tensor = lambda kind, shape: torch.tensor(record.draw(kind, tuple(shape)))
    distribution._standard_normal = lambda shape, dtype, device: tensor("normal", shape)
    torch.normal = lambda mean, std: mean + std * tensor("normal", mean.shape)
    torch.randn_like = lambda like: tensor("normal", like.shape)
    torch.Tensor.uniform_ = lambda own, low=0.0, high=1.0, **_: own.copy_(
        low + (high - low) * tensor("uniform", own.shape)
    )
    torch.Tensor.float = torch.Tensor.double
    yield
    distribution._standard_normal, torch.normal, torch.randn_like, torch.Tensor.uniform_, torch.Tensor.float = saved


def load_d4rl(folder):
    """D4RL's own `qlearning_dataset`, without its environments."""
    os.environ["D4RL_SUPPRESS_IMPORT_ERROR"] = "1"
    spec = importlib.util.spec_from_file_location("d4rl_itself", folder / "d4rl" / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TORCH = {
    "awac": {
        "class": ("AdvantageWeightedActorCritic", "update"), "networks": awac.networks, "names": ("next", "policy"),
        "modules": ("actor", "critic_1", "critic_2"), "log": lambda log: log,
        "options": {"hidden_dim": common.WIDTH, "awac_lambda": 0.1, "gamma": 0.99, "tau": 0.005, "learning_rate": 3e-4},
        "constants": {
            "discount": 0.99, "tau": 0.005, "lambda": 0.1, "max_weight": 100.0, "log_std_min": -20.0, "log_std_max": 2.0,
            "learning_rate": 3e-4, "rewards": [1.0, -1.0],
        },
    },
    "iql": {
        "class": ("ImplicitQLearning", "train"), "networks": iql.networks, "names": (),
        "modules": ("actor", "q_network", "v_network"),
        "log": lambda log: {"value_loss": log["value_loss"], "critic_loss": log["q_loss"], "actor_loss": log["actor_loss"]},
        "options": {"beta": 10.0, "iql_tau": 0.9},
        "constants": {
            "discount": 0.99, "tau": 0.005, "expectile": 0.9, "beta": 10.0, "max_weight": 100.0, "log_std_min": -20.0,
            "log_std_max": 2.0, "actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4, "value_learning_rate": 3e-4,
            "deterministic": False, "rewards": [1.0, -1.0],
        },
    },
    "cql": {
        "class": ("ContinuousCQL", "train"), "networks": cql.networks,
        "names": ("policy", "next", "random", "current", "following"), "modules": ("actor", "critic_1", "critic_2"),
        "log": lambda log: cql_log(log["qf1_loss"] + log["qf2_loss"], log["cql_min_qf1_loss"] + log["cql_min_qf2_loss"], log)
        | {"q_mean": (log["average_qf1"] + log["average_qf2"]) / 2, "multiplier": log["alpha_prime"]},
        "options": {
            "policy_lr": 1e-4, "qf_lr": 3e-4, "cql_alpha": 5.0, "cql_alpha_online": 5.0, "cql_n_actions": 4, "cql_lagrange": True,
            "cql_target_action_gap": 0.8, "cql_max_target_backup": True, "cql_clip_diff_min": -200.0, "q_n_hidden_layers": 3,
            "reward_scale": 10.0, "reward_bias": -5.0,
        },
        "constants": {
            "discount": 0.99, "tau": 0.005, "alpha": 5.0, "gap": 0.8, "actions": 4, "clip_min": -200.0, "lagrange": True,
            "actor_learning_rate": 1e-4, "critic_learning_rate": 3e-4, "rewards": [10.0, -5.0], "calibrate": False,
            "hidden": [16, 16, 16], "critic_hidden": [16, 16, 16], "max_backup": True,
        },
    },
}  # fmt: skip
TORCH["iql_deterministic"] = TORCH["iql"] | {
    "options": TORCH["iql"]["options"] | {"iql_deterministic": True, "expl_noise": 0.3},
    "constants": TORCH["iql"]["constants"] | {"deterministic": True, "noise": 0.3},
}


def cql_log(td_loss, penalty, log):
    """Metrics under our names from what both programs log under the same ones."""
    return {
        "critic_loss": td_loss + penalty, "td_loss": td_loss, "penalty": penalty,
        "gap": (log["cql_qf1_diff"] + log["cql_qf2_diff"]) / 2, "actor_loss": log["policy_loss"], "entropy": -log["log_pi"],
        "temperature": log["alpha"], "temperature_loss": log["alpha_loss"],
    }  # fmt: skip


def run_torch(args, name, data, batch_size=8, online=15):
    """One of CORL's PyTorch programs."""
    of, file = TORCH[name], name.split("_")[0]
    record = Record(name, of["names"])
    sys.modules.pop("gym", None)
    module = common.load_corl(args.authors, file, "finetune")
    module.gym, module.d4rl = gym_of(data, record, 0), load_d4rl(args.d4rl)
    module.torch = authors.Shim(torch, float32=torch.float64)
    module.np = authors.Shim(np, random=authors.Shim(np.random, randint=record.randint))
    module.trange = lambda n, **_: range(n)
    module.compute_mean_std = lambda states, eps: (0.0, 1.0)
    rounded = lambda self, value: torch.tensor(np.asarray(value, np.float32).astype(np.float64))
    module.ReplayBuffer._to_tensor = rounded
    data_rows = len(module.d4rl.qlearning_dataset(Environment("x-v0", data, None))["rewards"])
    kind, method = of["class"]
    batch_names = "observations", "actions", "rewards", "next_observations", "terminated"

    class Watched(getattr(module, kind)):
        def __init__(self, **kwargs):
            for key in of["modules"]:
                for parameter in kwargs[key].parameters():
                    with torch.no_grad():
                        parameter.copy_(parameter + 0.15 * torch.tensor(record.rng.normal(size=parameter.shape)))
            super().__init__(**kwargs)
            if file == "iql":
                self.actor_lr_schedule = types.SimpleNamespace(step=lambda: None)
            self.record_networks("start")

        def record_networks(self, when):
            record.put(when, of["networks"](self))

    def update(self, batch):
        columns = dict(zip(batch_names, batch))
        columns |= {key: columns[key].reshape(-1) for key in ("rewards", "terminated")}
        record.begin({key: value.detach().numpy() for key, value in columns.items()}, data_rows)
        log = getattr(super(Watched, self), method)(batch)
        record.end(**of["log"](log))
        Watched.last = self
        return log

    setattr(Watched, method, update)
    setattr(module, kind, Watched)
    env = {"env_name": "antmaze-stand-in-v0"} if file == "awac" else {"env": "antmaze-stand-in-v0"}
    every = {"eval_frequency": 10**9} if file == "awac" else {"eval_freq": 10**9}
    device = {"device": "cpu", "buffer_size": 1000, "batch_size": batch_size, "normalize_reward": True}
    iterations = {"offline_iterations": OFFLINE, "online_iterations": online}
    with torch_draws(record):
        module.train(module.TrainConfig(**env, **every, **device, **iterations, **of["options"]))
    Watched.last.record_networks("after")
    constants = of["constants"] | {"batch": batch_size, "offline": OFFLINE, "data_rows": data_rows, "data_share": None}
    return record, constants


@contextlib.contextmanager
def jax_draws(record, uniforms):
    """Draws of JAX are the record's; uniforms, where they are for diagnostics alone, are zeros."""
    saved = jax.random.normal, jax.random.uniform
    of = lambda kind, shape: jax.numpy.asarray(record.draw(kind, tuple(shape)))
    jax.random.normal = lambda key, shape=(), dtype=float, **_: of("normal", shape)
    if uniforms:
        jax.random.uniform = lambda key, shape=(), dtype=float, minval=0.0, maxval=1.0, **_: minval + (
            maxval - minval
        ) * of("uniform", shape)
    with jax.disable_jit():
        yield
    jax.random.normal, jax.random.uniform = saved


def run_rebrac(args, name, data, batch_size, mixing, noise, share, online):
    record = Record(name, ("next_actions",))
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb", "tqdm", "tqdm.auto")
    sys.modules["pyrallis"].wrap = lambda: lambda function: function
    gym = gym_of(data, record, 1)
    sys.modules["gym"].spaces = gym.spaces
    module = flax.load(args.authors / "algorithms" / "finetune" / "rebrac.py", f"corl_finetune_{name}")
    module.gym, module.trange = gym, lambda n, **_: range(n)
    module.tqdm = types.SimpleNamespace(tqdm=lambda iterable, **_: iterable)
    constants = {
        "actor_penalty": 0.3, "critic_penalty": 0.2, "discount": 0.99, "target_rate": 0.05, "policy_noise": 0.2, "noise_clip": 0.5,
        "policy_delay": 2, "actor_learning_rate": 3e-4, "critic_learning_rate": 1e-3, "online_penalty_share": share, "noise": noise,
        "rewards": [100.0, 0.0], "online_steps": online,
    }  # fmt: skip
    normal = lambda loc, scale, size: loc + scale * record.draw("normal", (size,))
    module.np = authors.Shim(np, random=authors.Shim(np.random, randint=record.randint, normal=normal))
    states = {}
    data_rows = len(module.qlearning_dataset(Environment("x-v0", data, None), "antmaze")["rewards"])

    def watched(kind, create):
        def make(params, target_params, **kwargs):
            start = flax.perturbed(params, record.rng)
            states[kind] = create(params=start, target_params=start, **kwargs)
            return states[kind]

        return types.SimpleNamespace(create=make)

    def layouts(actor, critic):
        mlp = lambda tree: flax.mlp(flax.numbered(tree["params"], "Dense"), flax.numbered(tree["params"], "LayerNorm"))
        return {
            "actor": mlp(actor.params), "target_actor": mlp(actor.target_params), "critics": flax.critics(critic.params),
            "target_critics": flax.critics(critic.target_params),
        }  # fmt: skip

    def recorded(update):
        def call(**kwargs):
            batch = kwargs["batch"] = {key: np.asarray(value, np.float64) for key, value in kwargs["batch"].items()}
            columns = {
                "observations": batch["states"], "actions": batch["actions"], "rewards": batch["rewards"],
                "next_observations": batch["next_states"], "terminated": batch["dones"],
            }  # fmt: skip
            if not record.rows:
                record.put("start", layouts(kwargs["actor"], kwargs["critic"]))
            if len(record.indices) == 2 and len(record.indices[1]) == 0:
                record.indices.pop()
            record.begin(columns, data_rows)
            found = update(**kwargs)
            log = {key: float(found[3].accumulators[key][0][0]) for key in ("critic_loss", "q_min")}
            if found[3].accumulators["actor_loss"][1][0] > 0:
                log["actor_loss"] = float(found[3].accumulators["actor_loss"][0][0])
                log["cloning_loss"] = float(found[3].accumulators["bc_mse_policy"][0][0])
            record.end(**log)
            states["last"] = found[1], found[2]
            return found

        return call

    for kind in ("ActorTrainState", "CriticTrainState"):
        setattr(module, kind, watched(kind, getattr(module, kind).create))
    for update in ("update_td3", "update_td3_no_targets"):
        setattr(module, update, recorded(getattr(module, update)))
    config = module.Config(
        dataset_name="antmaze-stand-in-v0", batch_size=batch_size, mixing_ratio=mixing, expl_noise=noise, hidden_dim=16,
        actor_bc_coef=0.3, critic_bc_coef=0.2, gamma=0.99, tau=0.05, actor_learning_rate=3e-4, critic_learning_rate=1e-3,
        min_decay_coef=share, num_offline_updates=OFFLINE, num_online_updates=online, eval_every=10**9, eval_episodes=1,
        normalize_reward=True, replay_buffer_size=1000,
    )  # fmt: skip
    with jax_draws(record, uniforms=False):
        module.train(config)
    record.put("after", layouts(*states["last"]))
    rows = batch_size - int(mixing * batch_size)
    of = {"batch": batch_size, "offline": OFFLINE, "data_rows": data_rows, "data_share": rows, "share": 1 - mixing, "hidden": [16] * 3}
    return record, constants | of


def run_cal_ql(args, name, data, options, batch_size, mixing, online):
    record = Record(name, ("policy", "next", "random", "current", "following"), repeats=5)
    authors.stand_in("d4rl", "gym", "wandb", "cloudpickle", "viskit", "viskit.logging")
    sys.path.insert(0, str(args.calql))
    sys.modules["JaxCQL.wandb_config"] = types.SimpleNamespace(get_wandb_config=lambda: dict.fromkeys(WANDB, ""))
    main = importlib.import_module("JaxCQL.conservative_sac_main")
    buffers, sac = importlib.import_module("JaxCQL.replay_buffer"), importlib.import_module("JaxCQL.conservative_sac")
    gym = gym_of(data, record, 2)
    main.gym = buffers.gym = gym
    buffers.np = authors.Shim(np, random=authors.Shim(np.random, randint=record.randint))
    loaded = buffers.qlearning_dataset_and_calc_mc(gym_of(data, None, 0).make("antmaze-x-v0"), 1.0, 0.0, 1.0, 0.99)
    data_rows = len(loaded["rewards"])

    def mlp(tree):
        return flax.mlp(flax.numbered(tree, "Dense"))

    class Watched(sac.ConservativeSAC):
        def __init__(self, *given):
            super().__init__(*given)
            for key, state in self._train_states.items():
                noise = lambda x: 0.15 * record.rng.normal(size=np.shape(x)) if np.ndim(x) else 0.0
                params = jax.tree.map(lambda x: jax.numpy.asarray(np.asarray(x, np.float64) + noise(x)), state.params)
                self._train_states[key] = state.replace(params=params, opt_state=state.tx.init(params))
            self._target_qf_params = {key: self._train_states[key].params for key in ("qf1", "qf2")}
            record.put("start", self.layouts())

        def layouts(self):
            ensemble = lambda trees: common.ensemble([mlp(tree["params"]["FullyConnectedNetwork_0"]) for tree in trees])
            params = {key: state.params for key, state in self._train_states.items()}
            actor = params["policy"]["params"]
            scalar = lambda value: np.asarray(value, np.float64).reshape(1)
            found = {
                "actor": mlp(actor["base_network"])
                | {f"log_std_{ours}": scalar(actor[f"log_std_{theirs}_module"]["value"]) for ours, theirs in SCALARS.items()},
                "critics": ensemble([params["qf1"], params["qf2"]]),
                "target_critics": ensemble([self._target_qf_params["qf1"], self._target_qf_params["qf2"]]),
                "temperature": {"log_alpha": scalar(params["log_alpha"]["params"]["value"])},
            }
            if "log_alpha_prime" in params:
                found["lagrange"] = {"log_alpha_prime": scalar(params["log_alpha_prime"]["params"]["value"])}
            return found

        def train(self, batch, **kwargs):
            names = {"terminated": "dones", "reached": "mc_returns"}
            columns = "observations", "actions", "rewards", "next_observations", "terminated", "reached"
            batch = {key: jax.numpy.asarray(value, np.float64) for key, value in batch.items()}
            record.begin({key: batch[names.get(key, key)] for key in columns}, data_rows)
            log = super().train(batch, **kwargs)
            of = {key.split("/")[-1].removesuffix("_mean"): float(value) for key, value in log.items()}
            td_loss = of["qf1_bellman_loss"] + of["qf2_bellman_loss"]
            found = cql_log(td_loss, of["cql_min_qf1_loss"] + of["cql_min_qf2_loss"], of)
            record.end(**found, q_mean=(of["q1_pred"] + of["q2_pred"]) / 2)
            self.raised = [value for key, value in of.items() if key.startswith("bound_rate")]
            Watched.last = self
            return log

    main.ConservativeSAC = Watched
    # Its name for the limits when the code was written.
    clip = lambda x, low=None, high=None, a_min=None, a_max=None: jax.numpy.clip(x, *(low, high) if a_max is None else (a_min, a_max))
    sac.jnp = authors.Shim(jax.numpy, clip=clip)
    constants = {
        "discount": 0.99, "tau": 0.005, "alpha": 5.0, "gap": 0.8, "actions": 4, "clip_min": None, "lagrange": True,
        "actor_learning_rate": 1e-4, "critic_learning_rate": 3e-4, "rewards": [10.0, -5.0], "calibrate": True,
        "failure_reward": 0.0, "hidden": [16, 16], "critic_hidden": [16, 16, 16], "max_backup": True,
    } | options  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, jax_draws(record, uniforms=True):
        flags = {
            "env": "antmaze-stand-in-v0", "batch_size": batch_size, "reward_scale": 10.0, "reward_bias": -5.0, "policy_arch": "16-16",
            "qf_arch": "16-16-16", "n_train_step_per_epoch_offline": OFFLINE, "n_pretrain_epochs": 1, "max_online_env_steps": online,
            "eval_n_trajs": 1, "mixing_ratio": mixing, "cql_min_q_weight": constants["alpha"], "enable_calql": True,
            "replay_buffer_size": 1000,
        }  # fmt: skip
        given = main.absl.flags.FLAGS
        if not given.is_parsed():
            given(["main"])
        for key, value in flags.items():
            setattr(given, key, value)
        given.logging.output_dir = folder
        given.cql.update(
            cql_n_actions=4, cql_lagrange=constants["lagrange"], cql_target_action_gap=0.8,
            cql_max_target_backup=constants["max_backup"], target_entropy=0.0,
        )  # fmt: skip
        main.main([])
    record.put("after", Watched.last.layouts())
    print(f"  {name}: raised {Watched.last.raised}")
    rows = int(batch_size * mixing)
    of = {"batch": batch_size, "offline": OFFLINE, "data_rows": data_rows, "data_share": rows, "share": mixing}
    return record, constants | of


SCALARS = {"scale": "multiplier", "shift": "offset"}
WANDB = ("WANDB_API_KEY", "WANDB_EMAIL", "WANDB_USERNAME")


if __name__ == "__main__":
    args = authors.arguments(__doc__, calql="checkout of Cal-QL", d4rl="checkout of D4RL")
    data = make_data(3)
    runs = {name: run_torch(args, name, data) for name in TORCH}
    runs["rebrac"] = run_rebrac(args, "rebrac", data, batch_size=8, mixing=0.5, noise=0.0, share=0.5, online=15)
    runs["rebrac_other"] = run_rebrac(args, "rebrac_other", data, batch_size=7, mixing=0.4, noise=0.2, share=0.2, online=15)
    runs["cal_ql"] = run_cal_ql(args, "cal_ql", data, {}, batch_size=8, mixing=0.5, online=13)
    other = {"lagrange": False, "alpha": 1.0, "max_backup": False}
    runs["cal_ql_other"] = run_cal_ql(args, "cal_ql_other", data, other, batch_size=7, mixing=0.3, online=10)
    tensors = {f"data.{name}": column.astype(np.float64) for name, column in data.items()}
    for record, _ in runs.values():
        tensors |= record.finish()
    metadata = {"jax": jax.__version__, "observation_dim": OBSERVATION, "action_dim": ACTION, "hidden": common.WIDTH}
    authors.save("online", tensors, metadata | {"runs": {name: constants for name, (_, constants) in runs.items()}})
