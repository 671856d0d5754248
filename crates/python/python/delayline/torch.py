"""Delayline for PyTorch: training with weights and optimizer state on a drive.

::

    import delayline.torch as flash
    store = flash.Store("run/", memory="2GiB")
    model, optimizer = flash.stream(model, torch.optim.AdamW, lr=3e-4, store=store, clip=1.0)
    with flash.activations("run/", memory="512MiB"):
        loss = model(batch, labels)
    loss.backward(); optimizer.step(); optimizer.zero_grad()

A weight is in memory while a module computes with it. At other times its tensor has no
memory, and any use of it raises an error. The optimizer is PyTorch's own, on views of the
store's memory. ``step()`` commits, so that after a crash the folder contains the last
completed step.
"""

from ._train.activations import activations
from ._train.building import building
from ._train.gguf import Gguf
from ._train.store import Report, Store
from ._train.stream import StreamedOptimizer, stream

__all__ = ["Gguf", "Report", "Store", "StreamedOptimizer", "activations", "building", "stream"]
