"""Small models that the tests of delayline.torch train, in memory and from the drive."""

import contextlib

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import delayline.torch as flash

VOCABULARY = 300


class Block(nn.Module):
    """A block with dropout, and with attention whose weights are used outside of their
    module."""

    def __init__(self, width, heads, kind=None):
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        n = self.before(x)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        x = x + self.drop(self.attention(n, n, n, need_weights=False, attn_mask=mask, is_causal=True)[0])
        return x + self.drop(self.down(F.gelu(self.up(self.between(x)))))


class GPT(nn.Module):
    """A model with a parameter of its own, a tied head, a buffer that changes, and blocks
    that may be checkpointed."""

    def __init__(self, width=64, blocks=3, heads=4, checkpointed=None):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.position = nn.Parameter(torch.randn(64, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.checkpointed = checkpointed

    def forward(self, ids):
        x = self.embedding(ids) + self.position[: ids.shape[1]]
        if self.training:
            self.seen += 1
        for block in self.blocks:
            if self.checkpointed is None:
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=self.checkpointed == "reentrant")
        return self.head(self.norm(x))


class Images(nn.Module):
    """A model with convolutions in channels-last order, and batch norm with its buffers."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        self.head = nn.Linear(48, 10)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.head(self.body(x.to(memory_format=torch.channels_last)))


def text_batch(generator):
    ids = torch.randint(0, VOCABULARY, (2, 33), generator=generator)
    return ids[:, :-1], ids[:, 1:]


def text_loss(model, batch):
    return F.cross_entropy(model(batch[0]).flatten(0, 1).float(), batch[1].flatten())


def image_batch(generator):
    return torch.randn(4, 3, 8, 8, generator=generator), torch.randint(0, 10, (4,), generator=generator)


def image_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def train(make, optimizer, options, *, folder=None, steps=100, clip=None, accumulate=1, memory="1MiB",
          batch=text_batch, loss=text_loss, autocast=False, keep=None, restarts=(), schedule=None,
          spill="256KiB", params=None, prepare=None, between=None, after=None):
    """The losses of all steps and the final weights, of training in memory or from a folder."""
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(9)
    model, losses = make(), []

    def begin(model):
        if prepare:
            prepare(model)
        groups = params(model) if params else [p for p in model.parameters() if p.requires_grad]
        if folder is None:
            made, store = optimizer(groups, **options), None
        else:
            store = flash.Store(folder, memory=memory)
            model, made = flash.stream(model, optimizer, store=store, clip=clip, accumulate=accumulate, params=groups, **options)
        scheduler = schedule(made) if schedule else None
        if store is not None and scheduler is not None:
            store.attach(scheduler)
        return model, made, scheduler, store

    model, made, scheduler, store = begin(model)
    for step in range(steps):
        if folder is not None and step in restarts:
            del model, made, scheduler, store
            torch.manual_seed(77)
            model, made, scheduler, store = begin(make())
            assert store.step == step
        for _ in range(accumulate):
            with contextlib.ExitStack() as stack:
                if autocast:
                    stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
                if folder is not None and spill:
                    stack.enter_context(flash.activations(folder, memory=spill))
                value = loss(model, batch(generator)) / accumulate
            value.backward()
            losses.append(value.item())
        if folder is None and clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        made.step()
        if scheduler is not None:
            scheduler.step()
        made.zero_grad()
        if between:
            between(step, model, made, store)
    if after:
        after(model, made, store)
    return losses, {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(memory, drive):
    """Checks that no bit differs."""
    for step, (here, there) in enumerate(zip(memory[0], drive[0], strict=True)):
        assert here == there, f"loss {step}: {here} in memory, {there} from the drive"
    assert memory[1].keys() == drive[1].keys()
    for name, value in memory[1].items():
        assert torch.equal(value, drive[1][name]), name
