"""Copies of weights on the drive: in state dicts, in copies of the model, and in files."""

import contextlib
import json
import os
import weakref

import torch

_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}


def install_copies(session, model):
    """Makes ``state_dict``, ``load_state_dict`` and ``deepcopy`` read and write the weights
    on the drive."""
    me = weakref.ref(session)
    for module in model.modules():
        module.register_state_dict_post_hook(_fill(me))
        module.register_load_state_dict_pre_hook(_take(me))
    for entry in session.entries:
        entry.param.__deepcopy__ = _copy(me, id(entry.param), entry.param.requires_grad)


def _fill(me):
    def fill(module, state, prefix, metadata):
        session, done = me(), {}
        for name, param in module._parameters.items():
            entry = session.by_id.get(id(param)) if param is not None else None
            key = prefix + name
            if entry is None or entry.param is not param or key not in state:
                continue
            # Tied weights share one tensor in the state dict, as in memory.
            shared = metadata.setdefault("_delayline", done) if isinstance(metadata, dict) else done
            if id(param) not in shared:
                shared[id(param)] = session.copy(entry)
            state[key] = shared[id(param)]
    return fill


def _take(me):
    def take(module, state, prefix, metadata, strict, missing, unexpected, errors):
        session = me()
        for name, param in module._parameters.items():
            entry = session.by_id.get(id(param)) if param is not None else None
            key = prefix + name
            if entry is None or entry.param is not param or key not in state:
                continue
            value = state[key]
            if value.size() != entry.size:
                errors.append(f"size mismatch for {key}: {tuple(value.size())}, expected {tuple(entry.size)}")
                continue
            session.write(entry, value)
            # Written already, so torch has nothing left to copy.
            state[key] = param
    return take


def _copy(me, key, requires_grad):
    def deepcopy(memo):
        if key in memo:
            return memo[key]
        session = me()
        copied = torch.nn.Parameter(session.copy(session.by_id[key]), requires_grad)
        memo[key] = copied
        return copied
    return deepcopy


def write_safetensors(session, path):
    """Writes all weights to a safetensors file, one at a time; tied weights once, under
    their first name. The file appears only when it is complete."""
    header, offset = {}, 0
    for entry in session.entries:
        header[entry.name] = {"dtype": _TYPES[entry.dtype], "shape": list(entry.size), "data_offsets": [offset, offset + entry.bytes]}
        offset += entry.bytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    partial = f"{os.fspath(path)}.partial"
    try:
        with open(partial, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            with torch.no_grad():
                for index, entry in enumerate(session.entries):
                    session.store._progress.tick(lambda: f"{path}: {index} of {len(session.entries)} weights")
                    tensor = session.lease(entry, "read")
                    file.write(memoryview(tensor.contiguous().view(-1).view(torch.uint8).numpy()))
                    del tensor
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    finally:
        session.store._progress.end()
