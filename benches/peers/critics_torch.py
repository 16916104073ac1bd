"""An ensemble of Q-functions in PyTorch, batched: one update towards r + discount min_i Q'_i(s', a').

Sampling, target, loss, backward, Adam, Polyak. The next action comes from the data, so that nothing but the ensemble is
timed. Every layer is one batched product over the members.
"""

import common

COLUMNS = "observations", "actions", "rewards", "next_observations", "next_actions", "terminated"
DISCOUNT, RATE = 0.99, 0.005


def build(args):
    import torch
    import torch_common as tc
    from torch import nn

    tc.start(args)

    class Ensemble(nn.Module):
        def __init__(self, sizes):
            super().__init__()
            bound = [inputs**-0.5 for inputs in sizes[:-1]]
            shapes = list(zip(sizes[:-1], sizes[1:], bound))
            n = args.members
            self.weights = nn.ParameterList([nn.Parameter(torch.empty(n, i, o).uniform_(-b, b)) for i, o, b in shapes])
            self.biases = nn.ParameterList([nn.Parameter(torch.empty(n, 1, o).uniform_(-b, b)) for _, o, b in shapes])

        def forward(self, observations, actions):
            x = torch.cat([observations, actions], 1).expand(args.members, -1, -1)
            for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                x = torch.baddbmm(bias, x.relu() if i else x, weight)
            return x.squeeze(2)  # (members, batch)

    sizes = [args.observations + args.actions, *[args.hidden] * args.layers, 1]
    critics, targets = Ensemble(sizes), Ensemble(sizes)
    targets.load_state_dict(critics.state_dict())
    buffer = tc.Buffer(args.observations, args.actions)
    adam = tc.adam(critics.parameters(), args.mode, lr=3e-4)
    online, copies = list(critics.parameters()), list(targets.parameters())

    def loss(observations, actions, rewards, next_observations, next_actions, terminated):
        with torch.no_grad():
            future = targets(next_observations, next_actions).amin(0)
            goal = rewards + DISCOUNT * (1 - terminated) * future
        return (critics(observations, actions) - goal).square().mean(1).sum()

    loss = tc.compiled(loss, args.mode)

    def step():
        batch = buffer.sample(args.batch, *COLUMNS)
        adam.zero_grad()
        loss(*batch).backward()
        adam.step()
        tc.polyak(copies, online, RATE, args.mode)

    return tc, step


if __name__ == "__main__":
    parser = common.parser(__doc__, members=10, hidden=256, layers=3)
    common.add_mode(parser)
    args = parser.parse_args()
    common.pin(args.threads)
    tc, step = build(args)
    common.serve(args, tc.name(args.mode), step, tc.product)
