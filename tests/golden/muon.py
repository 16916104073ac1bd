"""Golden numbers of Muon with AdamW for the rest: parameters after each of six steps with recorded gradients.

KellerJordan/Muon@857d1adc159e098212f828d927460782d3da59e9, muon.py. Its Newton-Schulz iteration rounds to bfloat16; here `bfloat16`
leaves float64 as it is, and nothing else is changed.

python tests/golden/muon.py --authors MUON
"""

import sys

import authors
import torch

COMMIT = "KellerJordan/Muon@857d1adc159e098212f828d927460782d3da59e9"
# Square, tall and wide matrices; an embedding and a bias are AdamW's.
MATRICES = {"attn.query.weight": (12, 12), "mlp.0.weight": (40, 12), "mlp.2.weight": (12, 40)}
OTHERS = {"tok_emb.weight": (7, 12), "attn.query.bias": (12,)}
STEPS = 6
MUON = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.05}
ADAM = {"lr": 6e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
# Of both rates, as a schedule gives them.
FACTORS = [0.25, 0.5, 1.0, 1.0, 0.6, 0.3]


def run():
    from muon import SingleDeviceMuonWithAuxAdam

    generator = torch.Generator().manual_seed(11)
    draw = lambda shape: torch.randn(shape, generator=generator)
    parameters = {name: torch.nn.Parameter(draw(shape)) for name, shape in (MATRICES | OTHERS).items()}
    groups = [
        {"params": [parameters[name] for name in MATRICES], "use_muon": True, **MUON},
        {"params": [parameters[name] for name in OTHERS], "use_muon": False, **ADAM},
    ]
    optimizer = SingleDeviceMuonWithAuxAdam(groups)
    tensors = {f"param.{name}": value.detach().numpy().copy() for name, value in parameters.items()}
    for step, factor in enumerate(FACTORS):
        for group, rate in zip(optimizer.param_groups, (MUON["lr"], ADAM["lr"])):
            group["lr"] = rate * factor
        for name, value in parameters.items():
            # Of very different sizes: what is orthogonalised does not depend on it.
            value.grad = draw(value.shape) * 10.0 ** (step - 3)
            tensors[f"grad.{step}.{name}"] = value.grad.numpy().copy()
        optimizer.step()
        for name, value in parameters.items():
            tensors[f"after.{step}.{name}"] = value.detach().numpy().copy()
    constants = {
        "authors": COMMIT, "factors": FACTORS, "muon_rate": MUON["lr"], "momentum": MUON["momentum"],
        "muon_decay": MUON["weight_decay"], "adam_rate": ADAM["lr"], "beta1": 0.9, "beta2": 0.95, "epsilon": ADAM["eps"],
        "adam_decay": ADAM["weight_decay"], "matrices": sorted(MATRICES),
    }  # fmt: skip
    authors.save("muon", tensors, constants)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    sys.path.insert(0, str(args.authors))
    torch.Tensor.bfloat16 = lambda tensor: tensor
    run()
