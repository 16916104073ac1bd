"""Decision Transformer in PyTorch, from https://arxiv.org/abs/2106.01345: the work of one update.

Sampling of windows from resident episodes (with padding and its mask), embeddings, the transformer, the squared error of
the actions, backward, clipping to 0.25, AdamW with decay 1e-4.
"""

import common


def build(args):
    import torch
    import torch_common as tc
    import transformer_torch as tt
    from torch import nn

    tc.start(args)
    o, a, k, width = args.observations, args.actions, args.context, args.width

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.returns, self.observations, self.actions = nn.Linear(1, width), nn.Linear(o, width), nn.Linear(a, width)
            self.times = nn.Embedding(common.EPISODE, width)
            self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
            self.drop = nn.Dropout(args.dropout)
            self.blocks = tt.blocks(args, nn.ReLU)
            self.head = nn.Linear(width, a)
            self.register_buffer("causal", tt.causal(3 * k))

        def forward(self, returns, observations, actions, times, valid):
            time = self.times(times)
            parts = self.returns(returns), self.observations(observations), self.actions(actions)
            x = torch.stack([part + time for part in parts], 2).flatten(1, 2)  # (batch, 3 k, width)
            seen = valid.repeat_interleave(3, 1)[:, None, None, :]
            mask = self.causal & seen | torch.eye(3 * k, dtype=torch.bool)  # a padded place sees itself
            x = self.drop(self.norms[0](x))
            for block in self.blocks:
                x = block(x, mask)
            return self.head(self.norms[1](x)[:, 1::3]).tanh()

    model = Model().train()
    observations, actions = torch.randn(common.STEPS, o), torch.rand(common.STEPS, a) * 2 - 1
    returns = torch.rand(common.STEPS, 1)
    optimizer = tc.adam(model.parameters(), args.mode, torch.optim.AdamW, lr=1e-4, weight_decay=1e-4)

    def sample():
        starts, offsets = torch.randint(common.STEPS, (args.batch, 1)), torch.arange(k)
        times = starts % common.EPISODE + offsets  # (batch, k)
        valid = times < common.EPISODE
        rows = torch.where(valid, starts + offsets, starts)
        columns = [torch.where(valid[..., None], column[rows], 0.0) for column in (returns, observations, actions)]
        return *columns, torch.where(valid, times, 0), valid

    def loss(returns, observations, actions, times, valid):
        error = (model(returns, observations, actions, times, valid) - actions).square().mean(2)
        return (error * valid).sum() / valid.sum()

    loss = tc.compiled(loss, args.mode)

    def step():
        batch = sample()
        optimizer.zero_grad()
        loss(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    return tc, step


if __name__ == "__main__":
    parser = common.parser(__doc__, batch=64, context=20, layers=3, heads=1, width=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--attention", choices=["fused", "plain"], default="fused")
    common.add_mode(parser)
    args = parser.parse_args()
    common.pin(args.threads)
    tc, step = build(args)
    common.serve(args, tc.name(args.mode), step, tc.product, warm_up=2, at_least=2, stride=1)
