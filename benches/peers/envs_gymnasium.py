"""Random steps of a MuJoCo environment of Gymnasium in one process, resets included."""

import common

if __name__ == "__main__":
    parser = common.parser(__doc__)
    parser.add_argument("--env", default="HalfCheetah-v5")
    args = parser.parse_args()
    common.pin(1)
    import gymnasium

    env = gymnasium.make(args.env)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(1000)]
    count = 0

    def step():
        global count
        count += 1
        _, _, terminated, truncated, _ = env.step(actions[count % len(actions)])
        if terminated or truncated:
            env.reset()

    common.serve(args, f"Gymnasium {gymnasium.__version__} {args.env}", step, None, "steps_per_s", warm_up=100)
