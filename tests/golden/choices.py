"""Golden numbers of discrete actions: d3rlpy's DiscreteCQL and DiscreteBC, and IQL over choices; the layout of value_based.py.

python tests/golden/choices.py --authors D3RLPY   (takuseno/d3rlpy @ 38c34b6f99fde82875e2ad81d1ba1f7a7da34137)

Writes discrete_cql, discrete_bc and discrete_iql. Actions `steps.actions` [S, B, 1] are whole numbers in 0..choices. Critics are
perceptrons of their own, `critics.i.net.{0,2,..}.{weight,bias}` as PyTorch has them. d3rlpy's BC has a penalty on logits, whose weight is 0
here. Nobody's code has IQL over choices with a value for each: its update is typed anew below, in PyTorch, from equations 5 to 7 of the
paper, in CORL's order (the weights and the critics' target from V before its step).
"""

import authors
import d3rlpy_reference as reference
import numpy as np
import torch
import torch.nn.functional as F
import value_based as common

CHOICES = 3
CQL = {
    # DiscreteCQLConfig's own values, with targets copied every third update rather than every 8,000th.
    "default": {"alpha": 1.0, "discount": 0.99, "target_rate": 1.0, "target_every": 3, "learning_rate": 6.25e-5},
    "other": {"alpha": 4.0, "discount": 0.9, "target_rate": 1.0, "target_every": 4, "learning_rate": 3e-2},
}  # fmt: skip
BC = {"default": {"learning_rate": 3e-4}, "other": {"learning_rate": 1e-2}}
IQL = {
    "default": {
        "expectile": 0.7, "beta": 3.0, "max_weight": 100.0, "discount": 0.99, "tau": 0.005, "learning_rate": 3e-4,
    },
    "other": {"expectile": 0.9, "beta": 5.0, "max_weight": 1.5, "discount": 0.9, "tau": 0.05, "learning_rate": 1e-3},
}  # fmt: skip


def transitions(rng):
    steps = common.transitions(rng)
    del steps["next_actions"]
    steps["actions"] = torch.tensor(rng.integers(CHOICES, size=(common.STEPS, common.BATCH, 1)).astype(np.float64))
    return steps


def members(modules, value):
    """Q-functions as `i.net.0.weight`, ..."""
    of = lambda module: reference.perceptron(reference.linears(module), value)
    return {f"{i}.{name}": number for i, module in enumerate(modules) for name, number in of(module).items()}


def batch(steps, step):
    return reference.mini_batch(steps | {"next_actions": steps["actions"]}, step)


def run_cql(name, constants, steps):
    from d3rlpy.algos.qlearning.torch.cql_impl import DiscreteCQLImpl
    from d3rlpy.algos.qlearning.torch.dqn_impl import DQNModules
    from d3rlpy.models import MeanQFunctionFactory
    from d3rlpy.models.builders import create_discrete_q_function

    torch.manual_seed(1)
    sizes = (common.OBSERVATION_DIM,), CHOICES
    made = [
        create_discrete_q_function(*sizes, reference.encoder(), MeanQFunctionFactory(), n_ensembles=1, **reference.OPTIONS)
        for _ in range(2)
    ]  # fmt: skip
    (critics, forwarder), (targets, target_forwarder) = made
    with torch.no_grad():
        for layer in reference.linears(critics):
            layer.weight *= 2.0
    optimizer = reference.Recording(critics, constants["learning_rate"], lambda value: members(critics, value))
    modules = DQNModules(q_funcs=critics, targ_q_funcs=targets, optim=optimizer)
    impl = DiscreteCQLImpl(
        observation_shape=sizes[0], action_size=CHOICES, modules=modules, q_func_forwarder=forwarder,
        targ_q_func_forwarder=target_forwarder, target_update_interval=constants["target_every"],
        gamma=constants["discount"], alpha=constants["alpha"], compiled=False, device="cpu",
    )  # fmt: skip
    networks = lambda: {
        "critics": members(critics, reference.itself),
        "target_critics": members(targets, reference.itself),
    }
    result = common.Run(name)
    result.put("start", networks())
    large = others = 0.0
    for step in range(common.STEPS):
        row = batch(steps, step)
        with torch.no_grad():
            y = row.rewards + constants["discount"] * impl.compute_target(row) * (1 - row.terminals)
            q = forwarder.compute_expected_q(row.observations).gather(1, row.actions.long())
            # Rows whose next choice the target network would make otherwise: a double network differs from a single one there.
            of = lambda net: net.compute_expected_q(row.next_observations).argmax(1)
            others += (of(forwarder) != of(target_forwarder)).double().mean().item() / common.STEPS
            large += ((q - y).abs() > 1).double().mean().item() / common.STEPS
        log = impl.inner_update(row, step + 1)
        gap = log["conservative_loss"]
        result.log(critic_loss=log["loss"], td_loss=log["td_loss"], gap=gap, penalty=constants["alpha"] * gap)
    assert 0.1 < large < 0.9, large
    assert name == "default" or others > 0.1, others
    result.put("grad", {"critics": optimizer.first})
    result.put("after", networks())
    return result


def run_bc(name, constants, steps):
    from d3rlpy.models.builders import create_categorical_policy
    from d3rlpy.models.torch.imitators import compute_discrete_imitation_loss

    torch.manual_seed(2)
    actor = create_categorical_policy((common.OBSERVATION_DIM,), CHOICES, reference.encoder(), **reference.OPTIONS)
    layout = lambda value: reference.perceptron(reference.linears(actor), value)
    optimizer = reference.Recording(actor, constants["learning_rate"], layout)
    result = common.Run(name)
    result.put("start", {"actor": layout(reference.itself)})
    for step in range(common.STEPS):
        row = batch(steps, step)
        optimizer.zero_grad()
        loss = compute_discrete_imitation_loss(actor, row.observations, row.actions.long(), beta=0.0).loss
        loss.backward()
        optimizer.step()
        result.log(actor_loss=loss)
    result.put("grad", {"actor": optimizer.first})
    result.put("after", {"actor": layout(reference.itself)})
    return result


def perceptron(outputs):
    sizes = common.OBSERVATION_DIM, common.WIDTH, common.WIDTH, outputs
    layers = []
    for inputs, width in zip(sizes, sizes[1:]):
        layers += [torch.nn.Linear(inputs, width), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def run_iql(name, constants, steps):
    torch.manual_seed(3)
    actor, value = perceptron(CHOICES), perceptron(1)
    critics, targets = [torch.nn.ModuleList(perceptron(CHOICES) for _ in range(2)) for _ in range(2)]
    with torch.no_grad():
        for layer in reference.linears(critics):
            layer.weight *= 2.5
    targets.load_state_dict(critics.state_dict())
    one = lambda module, number: reference.perceptron(reference.linears(module), number)
    layouts = {
        "actor": lambda number: one(actor, number),
        "critics": lambda number: members(critics, number),
        "value": lambda number: one(value, number),
    }
    modules = {"actor": actor, "critics": critics, "value": value}
    optimizers = {
        key: reference.Recording(module, constants["learning_rate"], layouts[key]) for key, module in modules.items()
    }
    networks = lambda: {
        **{key: layout(reference.itself) for key, layout in layouts.items()},
        "target_critics": members(targets, reference.itself),
    }
    result = common.Run(name)
    result.put("start", networks())
    clipped = 0.0
    for step in range(common.STEPS):
        row = batch(steps, step)
        actions = row.actions.long()
        of = lambda net, observations: torch.stack([member(observations).gather(1, actions)[:, 0] for member in net])
        with torch.no_grad():
            target_q = of(targets, row.observations).min(0).values
            y = row.rewards[:, 0] + constants["discount"] * (1 - row.terminals[:, 0]) * value(row.next_observations)[:, 0]
        advantages = target_q - value(row.observations)[:, 0]
        asymmetric = (constants["expectile"] - (advantages.detach() < 0).double()).abs()
        value_loss = (asymmetric * advantages**2).mean()
        critic_loss = ((of(critics, row.observations) - y) ** 2).mean()
        weights = (constants["beta"] * advantages.detach()).exp()
        clipped += (weights > constants["max_weight"]).double().mean().item() / common.STEPS
        log_probs = F.log_softmax(actor(row.observations), dim=1).gather(1, actions)[:, 0]
        actor_loss = -(weights.clamp(max=constants["max_weight"]) * log_probs).mean()
        for key, loss in (("value", value_loss), ("critics", critic_loss), ("actor", actor_loss)):
            optimizers[key].zero_grad()
            loss.backward()
            optimizers[key].step()
        with torch.no_grad():
            for target, online in zip(targets.parameters(), critics.parameters()):
                target.mul_(1 - constants["tau"]).add_(constants["tau"] * online)
        result.log(value_loss=value_loss, critic_loss=critic_loss, actor_loss=actor_loss)
    assert name == "default" or 0.05 < clipped < 0.9, clipped
    result.put("grad", {key: optimizer.first for key, optimizer in optimizers.items()})
    result.put("after", networks())
    return result


def save(name, commit, steps, runs, constants):
    common.save(name, commit, steps, {}, runs, constants)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    reference.load(args.authors)
    common.SIZES |= {"action_dim": 1, "choices": CHOICES}
    steps = transitions(np.random.default_rng(11))
    save("discrete_cql", reference.COMMIT, steps, [run_cql(*run, steps) for run in CQL.items()], CQL)
    save("discrete_bc", reference.COMMIT, steps, [run_bc(*run, steps) for run in BC.items()], BC)
    save("discrete_iql", "none", steps, [run_iql(*run, steps) for run in IQL.items()], IQL)
