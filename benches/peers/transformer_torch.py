"""The causal transformer of the PyTorch peers: pre-norm blocks of attention and a four times wider perceptron."""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


class Block(nn.Module):
    def __init__(self, width, heads, activation, dropout, attention):
        super().__init__()
        self.heads, self.dropout, self.attention = heads, dropout, attention
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), activation(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )
        self.drop = nn.Dropout(dropout)

    def attend(self, x, mask):
        batch, length, width = x.shape
        query, key, value = self.inputs(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.attention == "fused":
            y = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=self.dropout)
        else:
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)  # (batch, heads, length, length)
            y = nn.functional.dropout(weights, self.dropout) @ value
        return self.drop(self.output(y.transpose(1, 2).reshape(batch, length, width)))

    def forward(self, x, mask):
        x = x + self.attend(self.norms[0](x), mask)
        return x + self.perceptron(self.norms[1](x))


def blocks(args, activation):
    return nn.ModuleList(
        [Block(args.width, args.heads, activation, args.dropout, args.attention) for _ in range(args.layers)]
    )


def causal(length):
    """Who may look at whom (length, length)."""
    return torch.ones(length, length, dtype=torch.bool).tril()
