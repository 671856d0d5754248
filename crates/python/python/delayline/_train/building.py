"""Builds models that are larger than memory: parameters that are not in use are on the
drive."""

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from .._native import NativeActivations
from .phantom import phantom
from .stream import is_about_sizes, flat

# The store's memory divided by this is the memory for parameters while the model is built;
# those on their way to the drive get as much. Both still exist while the store fills.
_SHARE = 8

# Parameters with fewer bytes stay in memory.
_SMALL = 64 << 10


class building(TorchFunctionMode):
    """A context for making a model that is then given to ``delayline.torch.stream`` with
    ``store``. Its parameters are initialised with the same random numbers as without the
    context; the least recently used are moved to the drive until then.
    """

    def __init__(self, store):
        super().__init__()
        self.store = store
        self.budget = max(store.memory // _SHARE, 1 << 20)
        self.parked, self.here = {}, {}
        self.native = None

    def __enter__(self):
        if self.native is None:
            self.native = NativeActivations(self.store.path, self.budget)
        self.store._building = self
        self.handle = register_module_parameter_registration_hook(self._registered)
        return super().__enter__()

    def __exit__(self, *exception):
        self.handle.remove()
        return super().__exit__(*exception)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not is_about_sizes(function):
            for arg in flat([*args, *kwargs.values()]):
                if isinstance(arg, torch.nn.Parameter):
                    self.bring(arg)
        return function(*args, **kwargs)

    def bring(self, param):
        """Reads a parameter from the drive, if it is there."""
        if id(param) not in self.parked:
            if id(param) in self.here:
                self.here[id(param)] = self.here.pop(id(param))
            return
        _, activation, away = self.parked.pop(id(param))
        with torch._C.DisableTorchFunction(), torch.no_grad():
            data = torch.empty_strided(away.size(), away.stride(), dtype=away.dtype)
            source = torch.frombuffer(activation.lease(), dtype=torch.uint8)
            _bytes(data).copy_(source)
            param.data = data
        # Frees their memory for the next parameters.
        del source, activation, data
        self._note(param)

    def _registered(self, module, name, param):
        if isinstance(param, torch.nn.Parameter) and id(param) not in self.parked and param.device.type == "cpu":
            self._note(param)

    def _note(self, param):
        """Notes that a parameter was used, and moves others to the drive if needed."""
        if param.nbytes < _SMALL:
            return
        self.here[id(param)] = param
        held = sum(other.nbytes for other in self.here.values())
        for key, other in list(self.here.items()):
            if held <= self.budget or other is param:
                break
            # It has views, which may be written to; or it is longer than the memory.
            storage = other.untyped_storage()
            if torch._C._storage_Use_Count(storage._cdata) > 2 or other.nbytes > self.budget:
                continue
            del self.here[key]
            held -= other.nbytes
            self._park(other)

    def _park(self, param):
        with torch._C.DisableTorchFunction(), torch.no_grad():
            data = param.data
            activation, lease = self.native.push(data.untyped_storage().nbytes())
            torch.frombuffer(lease, dtype=torch.uint8).copy_(_bytes(data))
            away = phantom(data, "this parameter is on the drive; give the model to delayline.torch.stream")
            param.data = away
        self.parked[id(param)] = (param, activation, away)


def _bytes(data):
    """The storage of a tensor as a tensor of bytes."""
    storage = data.untyped_storage()
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))
