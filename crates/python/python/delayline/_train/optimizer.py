"""The optimizer: PyTorch's own, applied to one weight at a time."""

import weakref

import torch


class StateRules:
    """The class and options of an optimizer, and the state that it has for a weight."""

    # The state of these begins as zeros, so it is not allocated before the first update.
    _ZEROS = (torch.optim.Adam, torch.optim.AdamW)

    def __init__(self, kind, options):
        if not isinstance(kind, type) or not issubclass(kind, torch.optim.Optimizer):
            raise TypeError(f"{kind!r}: expected a class of optimizers, such as torch.optim.AdamW")
        for refused, why in ((torch.optim.LBFGS, "it works on all weights at once"), (torch.optim.SparseAdam, "it works on sparse gradients")):
            if issubclass(kind, refused):
                raise TypeError(f"{kind.__name__} cannot be streamed: {why}; optimizers that take one weight at a time can")
        if options.get("capturable") or options.get("differentiable"):
            raise ValueError("capturable and differentiable optimizers keep graphs of their steps, which cannot be streamed")
        self.kind, self.options = kind, options
        self.name = f"{kind.__module__}.{kind.__qualname__}"
        dummy = torch.nn.Parameter(torch.zeros(1))
        self.defaults = dict(kind([dummy], **options).defaults)
        self._found = {}

    def fresh(self, param, group):
        """An optimizer of one parameter, with the settings of a group."""
        figures = {key: value for key, value in group.items() if key in self.defaults}
        return self.kind([{"params": [param], **figures}], **self.options)

    def state_of(self, dims, dtype, group):
        """Names and types of the state tensors that have the shape of the weight, found by a
        step on a small weight with ``dims`` dimensions."""
        key = (dims, dtype, group.get("amsgrad"), group.get("momentum"), group.get("centered"))
        if key not in self._found:
            size = (3, 5, 7, 2, 3, 2, 3, 2)[: max(dims, 1)]
            param = torch.nn.Parameter(torch.zeros(size, dtype=dtype))
            param.grad = torch.ones_like(param)
            optimizer = self.fresh(param, group)
            optimizer.step()
            keys, dtypes = [], []
            for name, value in sorted(optimizer.state[param].items()):
                if not torch.is_tensor(value) or value.dim() == 0:
                    continue
                if value.size() != param.size() or value.stride() != param.stride():
                    raise TypeError(f"{self.kind.__name__} cannot be streamed: its state {name} has another shape than the weight")
                keys.append(name)
                dtypes.append(value.dtype)
            self._found[key] = (keys, dtypes)
        return self._found[key]

    def update(self, group, weight, grad, state, small):
        """One step on ``weight``. ``state`` has the tensors of its shape by name; ``small``
        has the rest of the state, and is ``None`` before the first step. Returns the new
        rest."""
        weight.grad = grad
        if small is None and type_is(self.kind, self._ZEROS):
            scalar = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
            small = {"step": torch.zeros((), dtype=scalar)}
        optimizer = self.fresh(weight, group)
        if small is not None:
            optimizer.state[weight] = {**small, **state}
        optimizer.step()
        made = optimizer.state[weight]
        for name, tensor in state.items():
            if made[name] is not tensor and made[name] is not None:
                tensor.copy_(made[name])
        weight.grad = None
        return {name: value for name, value in made.items() if name not in state}


def type_is(kind, kinds):
    return any(kind is one for one in kinds)


class StreamedOptimizer(torch.optim.Optimizer):
    """The optimizer of a streamed model. ``step()`` ends a step and commits it."""

    def __init__(self, session, groups, rules):
        super().__init__(groups, dict(rules.defaults))
        self.session = session

    def step(self, closure=None):
        if closure is not None:
            raise TypeError("step(closure) computes again, but updates were made already; call backward() and then step()")
        self.session.step()

    def zero_grad(self, set_to_none=True):
        if not set_to_none:
            raise ValueError("set_to_none=False would keep all gradients in memory; leave it out")
        self.session.zero_grad()

    @property
    def grad_norm(self):
        """The norm of all gradients of the last step before clipping; ``None`` without
        ``clip``."""
        return self.session.grad_norm

    def add_param_group(self, group):
        if hasattr(self, "session"):
            raise TypeError("a group cannot be added to a model that is streamed; give all of them to stream(params=...)")
        super().add_param_group(group)

    def state_dict(self):
        """The state dict that the same optimizer in memory has. All state is copied to
        memory."""
        state = self.session.optimizer_state()
        indices = {id(param): index for index, param in enumerate(p for g in self.param_groups for p in g["params"])}
        groups = []
        for group in self.param_groups:
            groups.append({**group, "params": [indices[id(param)] for param in group["params"]]})
        return {"state": {indices[key]: value for key, value in state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict):
        params = [param for group in self.param_groups for param in group["params"]]
        self.session.load_groups(state_dict["param_groups"])
        self.session.load_optimizer_state({id(params[index]): value for index, value in state_dict["state"].items()})

    def __getstate__(self):
        raise TypeError("a streamed optimizer cannot be copied or pickled; use its state_dict()")
