#!/usr/bin/env python3
"""Fine-tunes all weights of SmolLM2-135M on real text, in less memory than the state of
its optimizer takes.

    make demo                                        # fetches the model
    pip install torch crates/python
    python crates/python/examples/finetune.py        # about half an hour on two cores; --steps 20 for less

The weights are those of the demo model, converted to float32. The text is the language
reference that comes with Python, or the files that --text names. The folder is the
checkpoint: run it again to continue.
"""

import argparse
import functools
import pathlib
import re
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import delayline.torch as flash

ROOT = pathlib.Path(__file__).resolve().parents[3]

# The vocabulary is the largest weight by far. It is split into so many parts, so that its
# state, its gradient and the logits are never in memory as a whole.
PARTS = 8


class Block(nn.Module):
    """A block of Llama, whose weights have the names of the file."""

    def __init__(self, width, inner, heads, kv_heads, epsilon):
        super().__init__()
        self.heads, self.kv_heads = heads, kv_heads
        head = width // heads
        self.attn_norm, self.ffn_norm = (nn.RMSNorm(width, eps=epsilon) for _ in range(2))
        linear = functools.partial(nn.Linear, bias=False)
        self.attn_q, self.attn_output = linear(width, width), linear(width, width)
        self.attn_k, self.attn_v = (linear(width, kv_heads * head) for _ in range(2))
        self.ffn_gate, self.ffn_up, self.ffn_down = linear(width, inner), linear(width, inner), linear(inner, width)

    def forward(self, x, turns):
        def heads(part, count):
            return part.view(*x.shape[:2], count, -1).transpose(1, 2)
        n = self.attn_norm(x)
        q, k, v = heads(self.attn_q(n), self.heads), heads(self.attn_k(n), self.kv_heads), heads(self.attn_v(n), self.kv_heads)
        attended = F.scaled_dot_product_attention(turn(q, turns), turn(k, turns), v, is_causal=True, enable_gqa=True)
        x = x + self.attn_output(attended.transpose(1, 2).flatten(2))
        n = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(n)) * self.ffn_up(n))


def turn(x, turns):
    """Rotary position embedding. In the file's order of weights, neighbours are pairs."""
    cos, sin = turns
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Llama(nn.Module):
    def __init__(self, figures):
        super().__init__()
        of = lambda key: figures[f"llama.{key}"]
        width, heads, epsilon = of("embedding_length"), of("attention.head_count"), of("attention.layer_norm_rms_epsilon")
        self.rows = of("vocab_size") // PARTS
        self.base, self.head = of("rope.freq_base"), width // heads
        self.vocabulary = nn.ModuleList(nn.Embedding(self.rows, width) for _ in range(PARTS))
        self.blk = nn.ModuleList(
            Block(width, of("feed_forward_length"), heads, of("attention.head_count_kv"), epsilon) for _ in range(of("block_count"))
        )
        self.output_norm = nn.RMSNorm(width, eps=epsilon)

    def load(self, file):
        whole = file["token_embd.weight"]
        with torch.no_grad():
            for part, rows in zip(self.vocabulary, whole.split(self.rows)):
                part.weight.copy_(rows)
            for name, param in self.named_parameters():
                if not name.startswith("vocabulary"):
                    param.copy_(file[name])

    def forward(self, ids, labels):
        """The mean loss of a sequence."""
        x = 0
        for index, part in enumerate(self.vocabulary):
            here = ids - index * self.rows
            inside = (here >= 0) & (here < self.rows)
            x = x + part(here.where(inside, 0)) * inside.unsqueeze(-1)
        rates = self.base ** (-torch.arange(0, self.head, 2) / self.head)
        angles = torch.outer(torch.arange(ids.shape[1]), rates)
        turns = angles.cos(), angles.sin()
        for block in self.blk:
            x = block(x, turns)
        x = self.output_norm(x)
        sums, wanted = [], 0
        for index, part in enumerate(self.vocabulary):
            logits = F.linear(x, part.weight)
            here = labels - index * self.rows
            inside = (here >= 0) & (here < self.rows)
            wanted = wanted + logits.gather(-1, here.where(inside, 0).unsqueeze(-1)).squeeze(-1) * inside
            sums.append(logits.logsumexp(-1))
        return (torch.stack(sums).logsumexp(0) - wanted).mean()


class Tokenizer:
    """Byte pair encoding with the vocabulary of the file."""

    # Each digit is a word; a space belongs to the word after it.
    WORDS = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+|\d| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

    def __init__(self, figures):
        self.ids = {token: index for index, token in enumerate(figures["tokenizer.ggml.tokens"])}
        self.ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(figures["tokenizer.ggml.merges"])}
        # Bytes that are not printable are written as characters from 256 on.
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        self.characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
        self.word = functools.cache(self.word)

    def word(self, word):
        parts = [self.characters[byte] for byte in word.encode()]
        while len(parts) > 1:
            rank, at = min((self.ranks.get(pair, 1 << 30), at) for at, pair in enumerate(zip(parts, parts[1:])))
            if rank == 1 << 30:
                break
            parts[at : at + 2] = ["".join(parts[at : at + 2])]
        return [self.ids[part] for part in parts]

    def __call__(self, text):
        return [token for word in self.WORDS.findall(text) for token in self.word(word)]


def text_of(paths):
    if paths:
        return "\n\n".join(pathlib.Path(path).read_text() for path in paths)
    from pydoc_data.topics import topics
    return "\n\n".join(topics[name] for name in sorted(topics))


def peak():
    """The maximum of memory that this process has used, in bytes."""
    found = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(found.split()[1]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--text", nargs="+", metavar="FILE")
    parser.add_argument("--folder", default="finetune-run", help="where the run is kept")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=512, help="in a step")
    parser.add_argument("--store", default="48MiB", help="memory for weights and optimizer state")
    parser.add_argument("--activations", default="32MiB", help="memory for what the backward pass needs")
    parser.add_argument("--out", help="a safetensors file to write the weights to at the end")
    options = parser.parse_args()

    torch.manual_seed(0)
    file = flash.Gguf(options.model)
    store = flash.Store(options.folder, memory=options.store)
    with flash.building(store):
        model = Llama(file.metadata)
        if not store.exists():
            model.load(file)
    model, optimizer = flash.stream(model, torch.optim.AdamW, lr=5e-5, weight_decay=0.0, store=store)

    length = options.tokens + 1
    ids = torch.tensor(Tokenizer(file.metadata)(text_of(options.text)))
    del file
    pieces = ids[: len(ids) // length * length].view(-1, 1, length)
    held_out, pieces = pieces[::40], torch.cat([pieces[start + 1 : start + 40] for start in range(0, len(pieces), 40)])
    if not len(pieces):
        parser.error(f"the text has {len(ids)} tokens: expected {2 * length} or more")
    pieces = pieces[torch.randperm(len(pieces), generator=torch.Generator().manual_seed(1))]

    def evaluate():
        with torch.no_grad():
            return sum(model(piece[:, :-1], piece[:, 1:]).item() for piece in held_out[:4]) / len(held_out[:4])

    print(f"step {store.step}: loss {evaluate():.4f} on text that is held out")
    while store.step < options.steps:
        since = time.monotonic()
        piece = pieces[store.step % len(pieces)]
        with flash.activations(options.folder, memory=options.activations):
            loss = model(piece[:, :-1], piece[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {store.step}: loss {loss.item():.4f}, {time.monotonic() - since:.1f} s", flush=True)
    print(f"step {store.step}: loss {evaluate():.4f} on text that is held out")
    if options.out:
        store.export(options.out)
    state = 8 * sum(param.numel() for param in model.parameters())
    print(store.report())
    print(f"process  {peak() / 2**20:.0f} MiB at the peak, PyTorch included; the optimizer's state alone is {state / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
