"""Delayline for PyTorch Geometric: ``ahead`` reads the features of a loader's batches from
flash, and ``Sampler`` draws the same neighbours in every process and at any time."""

import copy
import weakref
from collections import deque

import torch
from torch_geometric.data import Data, FeatureStore as _FeatureStore, TensorAttr
from torch_geometric.loader import LinkLoader, NodeLoader
from torch_geometric.sampler import BaseSampler, SamplerOutput

from . import Features, Report
from ._native import NativeSampler

__all__ = ["AheadLoader", "FeatureStore", "Sampler", "ahead"]

# Maximum number of batches that are sampled before the next one is returned. With two, the
# look-ahead grows by one for each batch, and the first batch does not wait for all of it.
_PULLS = 2


class Sampler(BaseSampler):
    """Samples neighbours of nodes, hop by hop.

    ``data`` is a ``Data`` with its edges in ``edge_index``. ``num_neighbors`` has one number
    for each hop: the neighbours to sample of each node, or -1 for all. A draw depends only
    on ``seed``, the epoch, the seed nodes of the batch, the hop and the node, so batches do
    not change with the number of workers or the look-ahead.

    Raises ``TypeError`` for other kinds of data, and ``ValueError`` for edges or numbers
    that are out of range.
    """

    def __init__(self, data, num_neighbors, *, seed=0):
        super().__init__()
        _check_data(data)
        if data.edge_index is None:
            raise ValueError(
                "the data has no edge_index; delayline.pyg.Sampler samples Data with its edges in edge_index"
            )
        edges = data.edge_index
        if edges.dtype != torch.int64 or edges.dim() != 2 or edges.size(0) != 2 or edges.device.type != "cpu":
            raise ValueError(
                f"edge_index has the shape {tuple(edges.shape)} and type {edges.dtype} on {edges.device}, "
                "expected two rows of int64 in memory"
            )
        self.num_nodes = data.num_nodes
        self.num_neighbors = [int(count) for count in num_neighbors]
        self.seed = seed % 2**64
        # Shared with the workers, which may live for several epochs.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._is_set = True
        # The native sampler has its own copy of the graph, so the caller may free the edges.
        self._edges = weakref.ref(edges)
        self._native = self._make(edges)

    def _make(self, edges):
        source, target = edges[0].contiguous(), edges[1].contiguous()
        return NativeSampler(
            self.num_nodes, source.numpy(), target.numpy(), self.num_neighbors, self.seed
        )

    def set_epoch(self, epoch):
        """Sets the epoch in all workers, as with torch's ``DistributedSampler``."""
        self._epoch.fill_(epoch)
        self._is_set = True

    @property
    def epoch(self):
        return int(self._epoch)

    def sample_from_nodes(self, index, **kwargs):
        if index.time is not None:
            raise ValueError("delayline.pyg.Sampler does not sample by time; leave input_time out")
        node, row, col, edge, nodes, edges = self._native.sample(
            self.epoch, index.node.to(torch.int64).contiguous().numpy()
        )
        return SamplerOutput(
            node=_tensor(node),
            row=_tensor(row),
            col=_tensor(col),
            edge=_tensor(edge),
            num_sampled_nodes=nodes,
            num_sampled_edges=edges,
            metadata=(index.input_id, index.time),
        )

    def sample_from_edges(self, index, neg_sampling=None):
        raise NotImplementedError(
            "delayline.pyg.Sampler samples from nodes only; give a LinkLoader a sampler of PyTorch Geometric"
        )

    def expected_uses(self, seeds):
        """How often each node is expected to be used in an epoch with these seed nodes, as
        the bytes of 32-bit floats."""
        return self._native.expected_uses(seeds.to(torch.int64).contiguous().numpy())

    # A worker that is not forked gets the edges and makes the native sampler again.
    def __getstate__(self):
        state = self.__dict__.copy()
        del state["_native"]
        state["_edges"] = self._edges()
        if state["_edges"] is None:
            raise ValueError(
                "the edge_index that this sampler was made from is gone, and a worker that is not forked "
                "needs it; keep it in the data, or start workers with multiprocessing_context='fork'"
            )
        return state

    def __setstate__(self, state):
        edges = state.pop("_edges")
        self.__dict__.update(state)
        self._edges = weakref.ref(edges)
        self._native = self._make(edges)


def ahead(loader, *, x):
    """Makes a loader whose batches have their ``x`` from a file.

    ``loader`` is a ``NodeLoader`` or ``LinkLoader`` of data without ``x``; ``x`` is a
    ``delayline.Features`` with one row for each node. The batches equal those of the loader
    with features in memory. They are sampled ahead, as many as the memory of ``x`` has room
    for, and their rows are read meanwhile.

    Raises ``TypeError`` or ``ValueError`` if loader, data and features do not fit.
    """
    return AheadLoader(loader, x)


class AheadLoader:
    """The loader that ``ahead`` makes. It has the attributes of the original one."""

    def __init__(self, loader, x):
        if not isinstance(loader, (NodeLoader, LinkLoader)):
            raise TypeError(
                f"a {type(loader).__name__} cannot run ahead; expected a NodeLoader or LinkLoader, or a subclass"
            )
        if not isinstance(x, Features):
            raise TypeError(f"x is a {type(x).__name__}, expected delayline.Features")
        data = loader.data
        _check_data(data)
        if data.x is not None:
            raise ValueError(
                f"the data has an x already, of the shape {tuple(data.x.shape)}; "
                "remove it (del data.x), because batches get theirs from the file"
            )
        if data.num_nodes != len(x):
            raise ValueError(
                f"the data has {data.num_nodes} nodes and {x.path} has {len(x)} rows; expected one row for each "
                "node (num_nodes= sets the number of nodes)"
            )
        self.loader, self.x = loader, x
        self._sampler = loader.node_sampler if hasattr(loader, "node_sampler") else loader.link_sampler
        self._is_ours = isinstance(self._sampler, Sampler)
        # Another sampler may draw from torch's generators. Without workers, running ahead
        # would change the order of these draws and of those of the training.
        self._may_run_ahead = self._is_ours or loader.num_workers > 0
        self._is_first, self._turn, self._most_ahead = True, 0, 0
        self._outputs = _outputs_of(loader)
        self._joiner = copy.copy(loader)
        self._joiner.filter_per_worker = False
        self._joiner.transform_sampler_output = None

    def __len__(self):
        return len(self.loader)

    def __getattr__(self, name):
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self):
        self._turn += 1
        self.x.end()
        if self._is_ours:
            # An epoch that the user has set is the next one.
            if not self._sampler._is_set:
                self._sampler.set_epoch(self._sampler.epoch + 1)
            self._sampler._is_set = False
            if self._is_first:
                self.x.expect(self._sampler.expected_uses(_seeds(self.loader)))
        self._is_first = False
        return self._batches(iter(self._outputs), self._turn)

    def report(self):
        """The figures so far, by name."""
        return Report(self.x.report() | {"most_batches_ahead": self._most_ahead})

    def _batches(self, outputs, turn):
        held = deque()
        try:
            while True:
                outputs = self._pull(outputs, held)
                if not held:
                    return
                output = held.popleft()
                rows = _rows(self.x, *self.x.take(), output.node.numel())
                if self._may_run_ahead:
                    outputs = self._pull(outputs, held)
                yield self._join(output, rows)
                if turn != self._turn:
                    raise RuntimeError(
                        "this loader was started anew while an earlier pass over it was still in use; "
                        "for passes that overlap make a loader and features for each"
                    )
        finally:
            if turn == self._turn:
                self.x.end()

    def _pull(self, outputs, held):
        """Samples and announces batches. Returns the iterator, or None at its end."""
        for _ in range(_PULLS):
            if outputs is None or held and not (self._may_run_ahead and self.x.wants_more()):
                break
            output = next(outputs, None)
            if output is None:
                return None
            if not isinstance(output, SamplerOutput):
                raise TypeError(f"the sampler gave a {type(output).__name__}, expected a SamplerOutput of one kind of node")
            if self.loader.transform_sampler_output:
                output = self.loader.transform_sampler_output(output)
            self.x.announce(output.node.to(torch.int64).contiguous().numpy(), _held_bytes(output))
            held.append(output)
            self._most_ahead = max(self._most_ahead, len(held))
        return outputs

    def _join(self, output, rows):
        transform = self.loader.transform

        def with_x(data):
            data.x = rows
            return data if transform is None else transform(data)

        self._joiner.transform = with_x
        return self._joiner.filter_fn(output)


class FeatureStore(_FeatureStore):
    """A feature store of PyTorch Geometric with ``x`` from a ``delayline.Features``. Rows are
    read when they are requested. Nothing is known ahead, so the rows used most stay."""

    def __init__(self, x, *, attr_name="x", group_name=None):
        super().__init__()
        self.__dict__["features"] = x
        self.__dict__["attr"] = TensorAttr(group_name, attr_name)

    def _is_ours(self, attr):
        return attr.attr_name == self.attr.attr_name and attr.group_name == self.attr.group_name

    def _get_tensor(self, attr):
        if not self._is_ours(attr):
            return None
        index = attr.index
        rows = len(self.features)
        if index is None:
            index = torch.arange(rows)
        elif isinstance(index, slice):
            index = torch.arange(rows)[index]
        elif isinstance(index, int):
            index = torch.tensor([index])
        index = torch.as_tensor(index)
        if index.dtype == torch.bool:
            index = index.nonzero().view(-1)
        array, offset = self.features.gather_bytes(index.to(torch.int64).contiguous().numpy())
        return _rows(self.features, array, offset, index.numel())

    def _get_tensor_size(self, attr):
        return self.features.shape if self._is_ours(attr) else None

    def get_all_tensor_attrs(self):
        return [copy.copy(self.attr)]

    def _put_tensor(self, tensor, attr):
        raise NotImplementedError("features on flash are read only; write the file anew")

    def _remove_tensor(self, attr):
        raise NotImplementedError("features on flash are read only; remove the file instead")


def _check_data(data):
    if not isinstance(data, Data):
        raise TypeError(
            f"the graph is a {type(data).__name__}, expected Data with one kind of nodes; "
            "HeteroData and pairs of stores are not read ahead"
        )


def _outputs_of(loader):
    """A copy of the loader, with its own workers, that yields the output of the sampler
    before features are joined to it."""
    # The copy for workers has no function of the user's, and no generator, which torch
    # cannot send to a worker that is not forked.
    worker = copy.copy(loader)
    worker.__dict__.update(
        filter_per_worker=False,
        transform=None,
        transform_sampler_output=None,
        sampler=None,
        batch_sampler=None,
        generator=None,
        collate_fn=None,
        _iterator=None,
    )
    outputs = copy.copy(loader)
    outputs.filter_per_worker = False
    outputs.filter_fn = lambda output: output
    outputs.collate_fn = type(loader).collate_fn.__get__(worker)
    outputs._iterator = None
    return outputs


def _seeds(loader):
    inputs = loader.input_data
    return inputs.node if hasattr(inputs, "node") else torch.cat([inputs.row, inputs.col])


def _held_bytes(output):
    tensors = (output.node, output.row, output.col, output.edge, output.batch)
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def _tensor(array):
    return torch.frombuffer(array, dtype=torch.int64) if array else torch.empty(0, dtype=torch.int64)


def _rows(x, array, offset, count):
    """A tensor of ``count`` rows over the bytes from ``offset`` on."""
    dtype, columns = getattr(torch, x.dtype), x.shape[1]
    if count == 0:
        return torch.empty(0, columns, dtype=dtype)
    return torch.frombuffer(array, dtype=dtype, count=count * columns, offset=offset).view(count, columns)
