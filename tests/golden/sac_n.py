"""Golden numbers of CORL's SAC-N: ten updates with recorded noise.

python tests/golden/sac_n.py --authors CORL
corl-team/CORL @ eeeeef2671235fcce3a3eb255576a207d78840e6, algorithms/offline/sac_n.py
"""

import authors
import ensemble_runs

RUNS = {
    "default": {
        "members": 5, "discount": 0.99, "target_rate": 0.005, "actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4,
        "temperature_learning_rate": 3e-4, "target_entropy": -2.0, "log_alpha": 0.0,
    },
    "other": {
        "members": 3, "discount": 0.9, "target_rate": 0.05, "actor_learning_rate": 1e-3, "critic_learning_rate": 2e-3,
        "temperature_learning_rate": 5e-3, "target_entropy": -0.7, "log_alpha": -0.4,
    },
}  # fmt: skip

if __name__ == "__main__":
    args = authors.arguments(__doc__)
    module = ensemble_runs.load(args.authors, "sac_n")
    ensemble_runs.write("sac_n", module, module.SACN, RUNS, seed=5)
