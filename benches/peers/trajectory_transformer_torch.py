"""Trajectory Transformer in PyTorch, from https://arxiv.org/abs/2106.02039: the work of one update.

Sampling of token windows from resident episodes, embeddings, the transformer with the value tokens' columns masked, one
head per place in a transition, weighted cross-entropy, backward, clipping to 1, AdamW with decay 0.1 on matrices.
"""

import common

BINS, ACTION_WEIGHT = 100, 5.0


def build(args):
    import torch
    import torch_common as tc
    import transformer_torch as tt
    from torch import nn
    from torch.nn.functional import cross_entropy

    tc.start(args)
    o, a, width, context = args.observations, args.actions, args.width, args.context
    places = o + a + 2
    length = context * places - 1  # the last token is only a target

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(BINS * places + 1, width)
            self.positions = nn.Parameter(torch.zeros(length, width))
            self.drop, self.norm = nn.Dropout(args.dropout), nn.LayerNorm(width)
            self.blocks = tt.blocks(args, nn.GELU)
            self.heads = nn.Parameter(torch.randn(places, width, BINS + 1) * width**-0.5)
            mask = tt.causal(length)
            mask[:, places - 1 :: places] = False
            self.register_buffer("mask", mask)
            self.register_buffer("offsets", (torch.arange(places) * BINS).repeat(context)[:length])

        def forward(self, tokens):
            x = torch.where(tokens == BINS, BINS * places, tokens + self.offsets)  # one table for all places
            x = self.drop(self.tokens(x) + self.positions)
            for block in self.blocks:
                x = block(x, self.mask)
            x = nn.functional.pad(self.norm(x), (0, 0, 0, 1))  # up to whole transitions
            x = x.view(-1, places, width).transpose(0, 1)  # (places, batch * context, width)
            logits = torch.bmm(x, self.heads).transpose(0, 1)  # (batch * context, places, bins + 1)
            return logits.reshape(len(tokens), length + 1, -1)[:, :-1]

    model = Model().train()
    data = torch.randint(BINS, (common.STEPS, places))
    decayed = [p for n, p in model.named_parameters() if n == "heads" or "blocks" in n and p.dim() == 2]
    others = [p for n, p in model.named_parameters() if all(p is not d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = tc.adam(groups, args.mode, torch.optim.AdamW, lr=6e-4, betas=(0.9, 0.95))
    weights = torch.tensor([1.0] * o + [ACTION_WEIGHT] * a + [1.0, 1.0]).repeat(context)[1:]

    def sample():
        starts, offsets = torch.randint(common.STEPS, (args.batch, 1)), torch.arange(context)
        valid = starts % common.EPISODE + offsets < common.EPISODE
        rows = torch.where(valid, starts + offsets, starts)
        tokens = torch.where(valid[..., None], data[rows], BINS).flatten(1)  # (batch, context * places)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), valid.repeat_interleave(places, 1)[:, :-1]

    def loss(inputs, targets, valid):
        logits = model(inputs)
        losses = cross_entropy(logits.reshape(-1, BINS + 1), targets.reshape(-1), reduction="none")
        return (losses.view_as(targets) * weights * valid).mean()

    loss = tc.compiled(loss, args.mode)

    def step():
        batch = sample()
        optimizer.zero_grad()
        loss(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return tc, step


if __name__ == "__main__":
    parser = common.parser(__doc__, batch=32, context=10, layers=4, heads=4, width=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--attention", choices=["fused", "plain"], default="fused")
    common.add_mode(parser)
    args = parser.parse_args()
    common.pin(args.threads)
    tc, step = build(args)
    common.serve(args, tc.name(args.mode), step, tc.product, warm_up=2, at_least=2, stride=1)
