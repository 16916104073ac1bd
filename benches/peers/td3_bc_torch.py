"""TD3+BC in PyTorch, from the equations of https://arxiv.org/abs/2106.06860: the work of one update.

Sampling from a resident buffer, target, two critics, backward, Adam, and at every second update the actor and Polyak
averages of all targets. Nothing is read back or logged.
"""

import common

COLUMNS = "observations", "actions", "rewards", "next_observations", "terminated"
DISCOUNT, RATE, NOISE, CLIP, ALPHA, DELAY = 0.99, 0.005, 0.2, 0.5, 2.5, 2


def build(args):
    import torch
    import torch_common as tc
    from torch import nn
    from torch.nn.functional import mse_loss

    tc.start(args)

    def network(inputs, outputs, *last):
        return nn.Sequential(
            nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs), *last
        )

    o, a = args.observations, args.actions
    make_actor, make_critic = lambda: network(o, a, nn.Tanh()), lambda: network(o + a, 1)
    actor, critics = make_actor(), nn.ModuleList([make_critic(), make_critic()])
    target_actor, targets = make_actor(), nn.ModuleList([make_critic(), make_critic()])
    target_actor.load_state_dict(actor.state_dict())
    targets.load_state_dict(critics.state_dict())
    buffer = tc.Buffer(o, a)
    actor_adam = tc.adam(actor.parameters(), args.mode, lr=3e-4)
    critic_adam = tc.adam(critics.parameters(), args.mode, lr=3e-4)
    online = [*critics.parameters(), *actor.parameters()]
    copies = [*targets.parameters(), *target_actor.parameters()]

    def critic_loss(observations, actions, rewards, next_observations, terminated):
        with torch.no_grad():
            noise = (torch.randn_like(actions) * NOISE).clamp(-CLIP, CLIP)
            next_actions = (target_actor(next_observations) + noise).clamp(-1, 1)
            pair = torch.cat([next_observations, next_actions], 1)
            future = torch.minimum(targets[0](pair), targets[1](pair)).squeeze(1)
            goal = rewards + DISCOUNT * (1 - terminated) * future
        pair = torch.cat([observations, actions], 1)
        return sum(mse_loss(critic(pair).squeeze(1), goal) for critic in critics)

    def actor_loss(observations, actions):
        chosen = actor(observations)
        q = critics[0](torch.cat([observations, chosen], 1))
        return mse_loss(chosen, actions) - ALPHA * q.mean() / q.abs().mean().detach()

    critic_loss, actor_loss = tc.compiled(critic_loss, args.mode), tc.compiled(actor_loss, args.mode)
    updates = 0

    def step():
        nonlocal updates
        updates += 1
        batch = buffer.sample(args.batch, *COLUMNS)
        critic_adam.zero_grad()
        critic_loss(*batch).backward()
        critic_adam.step()
        if updates % DELAY == 0:
            actor_adam.zero_grad()
            actor_loss(batch[0], batch[1]).backward()
            actor_adam.step()
            tc.polyak(copies, online, RATE, args.mode)

    return tc, step


if __name__ == "__main__":
    parser = common.parser(__doc__)
    common.add_mode(parser)
    args = parser.parse_args()
    common.pin(args.threads)
    tc, step = build(args)
    common.serve(args, tc.name(args.mode), step, tc.product)
