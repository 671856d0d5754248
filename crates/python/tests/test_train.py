"""Training from the drive has the same bits as training in memory."""

import functools

import pytest
import torch
import torch.nn as nn

from train_models import GPT, Images, assert_same, image_batch, image_loss, text_batch, text_loss, train

torch.set_num_threads(2)


def cosine(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)


def two_groups(model):
    plain = [p for p in model.parameters() if p.dim() < 2]
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    return [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0, "lr": 2e-3}]


def freeze(model):
    for name, param in model.named_parameters():
        param.requires_grad_("up" in name or "norm" in name)


class Masters(torch.optim.Optimizer):
    """AdamW with fp32 master copies of bf16 weights."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in (param for param in group["params"] if param.grad is not None):
                state = self.state[param]
                if not state:
                    state.update(step=torch.zeros(()), master=param.float())
                    state.update(mean=torch.zeros_like(state["master"]), square=torch.zeros_like(state["master"]))
                state["step"] += 1
                master, mean, square, grad, count = state["master"], state["mean"], state["square"], param.grad.float(), state["step"].item()
                master.mul_(1 - group["lr"] * 0.01)
                mean.lerp_(grad, 1 - 0.9)
                square.mul_(0.999).addcmul_(grad, grad, value=1 - 0.999)
                size = group["lr"] / (1 - 0.9**count)
                master.addcdiv_(mean, (square.sqrt() / (1 - 0.999**count) ** 0.5).add_(1e-8), value=-size)
                param.copy_(master)


# The specification promises a hundred steps.
LONG = {"make": functools.partial(GPT, width=32, blocks=2), "steps": 100, "memory": "512KiB"}
CASES = {
    "adamw for-loop": dict(options={"foreach": False}, **LONG),
    "adamw foreach": dict(options={"foreach": True}, **LONG),
    "adamw fused": dict(options={"fused": True}, **LONG),
    "adamw amsgrad": dict(options={"amsgrad": True}),
    "sgd momentum": dict(optimizer=torch.optim.SGD, options={"lr": 0.05, "momentum": 0.9, "nesterov": True}, **LONG),
    "sgd": dict(optimizer=torch.optim.SGD, options={"lr": 0.05}),
    "nadam": dict(optimizer=torch.optim.NAdam, options={}),
    "adagrad": dict(optimizer=torch.optim.Adagrad, options={"initial_accumulator_value": 0.1}),
    "rmsprop centered": dict(optimizer=torch.optim.RMSprop, options={"centered": True, "momentum": 0.5}),
    "clip": dict(clip=0.7, **LONG),
    "clip that does nothing": dict(clip=1e6),
    "accumulate": dict(accumulate=3, steps=10),
    "accumulate and clip": dict(accumulate=3, clip=0.5, steps=10),
    "schedule and groups": dict(schedule=cosine, params=two_groups, restarts=(7, 13)),
    "restarts": dict(clip=1.0, restarts=(1, 2, 10, 19)),
    "checkpoint": dict(make=functools.partial(GPT, checkpointed="plain")),
    "checkpoint reentrant": dict(make=functools.partial(GPT, checkpointed="reentrant")),
    "autocast": dict(autocast=True),
    "autocast and clip": dict(autocast=True, clip=0.7),
    "bfloat16": dict(make=lambda: GPT().bfloat16()),
    "frozen": dict(prepare=freeze),
    "images": dict(make=Images, batch=image_batch, loss=image_loss, restarts=(9,)),
    "images with momentum": dict(
        make=Images, batch=image_batch, loss=image_loss, optimizer=torch.optim.SGD, options={"lr": 0.1, "momentum": 0.9}
    ),
    "activations in memory": dict(spill=None),
}


@pytest.mark.parametrize("case", CASES)
def test_no_bit_differs(case, tmp_path):
    figures = {"steps": 20, **CASES[case]}
    make, optimizer = figures.pop("make", GPT), figures.pop("optimizer", torch.optim.AdamW)
    options = {"lr": 1e-3, **figures.pop("options", {})}
    memory = train(make, optimizer, options, **figures)
    drive = train(make, optimizer, options, folder=tmp_path, **figures)
    assert_same(memory, drive)


def compile_method(model):
    for block in model.blocks:
        block.compile()


def compile_function(model):
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block)


def test_master_weights_give_the_bits_of_an_explicit_loop(tmp_path):
    torch.manual_seed(5)
    model, generator, losses = GPT(width=32, blocks=2).bfloat16(), torch.Generator().manual_seed(9), []
    masters = [param.detach().float() for param in model.parameters()]
    optimizer = torch.optim.AdamW(masters, lr=1e-3, foreach=False)
    for _ in range(100):
        loss = text_loss(model, text_batch(generator))
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for param, master in zip(model.parameters(), masters):
                master.grad, param.grad = param.grad.float(), None
            optimizer.step()
            for param, master in zip(model.parameters(), masters):
                param.copy_(master)
    make = lambda: GPT(width=32, blocks=2).bfloat16()
    drive = train(make, Masters, {"lr": 1e-3}, folder=tmp_path, memory="512KiB", restarts=(40,))
    assert_same((losses, model.state_dict()), drive)


@pytest.mark.parametrize("compiled", [compile_method, compile_function])
def test_compiled_blocks_give_the_bits_of_compiled_blocks_in_memory(compiled, tmp_path):
    figures = dict(
        make=functools.partial(GPT, width=32, blocks=2), optimizer=torch.optim.AdamW, options={"lr": 1e-3},
        prepare=compiled, steps=10, memory="1MiB", spill="2MiB", clip=1.0,
    )
    assert_same(train(**figures), train(folder=tmp_path, **figures))
