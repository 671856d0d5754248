"""Loaders with features on flash give the same batches as with features in memory."""

import os

import numpy as np
import pytest
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.datasets import KarateClub
from torch_geometric.loader import DataLoader, NodeLoader
from torch_geometric.nn import SAGEConv
from torch_geometric.sampler import BaseSampler, SamplerOutput

import delayline
import delayline.pyg

NODES, COLUMNS = 6000, 24


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "x.npy"
    rng = np.random.default_rng()
    x = rng.standard_normal((NODES, COLUMNS), dtype=np.float32)
    np.save(path, x)
    skewed = (NODES * rng.power(4, 50000)).astype(np.int64)
    edges = torch.from_numpy(np.stack([rng.integers(0, NODES, 50000), skewed]))
    y = torch.from_numpy(rng.integers(0, 5, NODES))
    bare = Data(edge_index=edges, num_nodes=NODES, y=y)
    full = Data(edge_index=edges, num_nodes=NODES, y=y, x=torch.from_numpy(x))
    return bare, full, path


def loader_of(data, *, sampler_seed=1, **options):
    sampler = delayline.pyg.Sampler(data, [6, 3], seed=sampler_seed)
    generator = torch.Generator().manual_seed(4)
    options = {"batch_size": 200, "shuffle": True} | options
    return NodeLoader(data, node_sampler=sampler, generator=generator, **options)


def ahead_of(graph, memory="2MiB", **options):
    bare, _, path = graph
    return delayline.pyg.ahead(loader_of(bare, **options), x=delayline.Features(path, memory=memory))


def in_memory(graph, epochs, **options):
    loader = loader_of(graph[1], **options)
    for epoch in range(epochs):
        loader.node_sampler.set_epoch(epoch)
        yield from loader


def same(a, b):
    names = ("x", "edge_index", "n_id", "e_id", "y", "input_id")
    return (
        all(torch.equal(a[name], b[name]) for name in names)
        and a.num_nodes == b.num_nodes
        and a.batch_size == b.batch_size
        and a.num_sampled_nodes == b.num_sampled_nodes
        and a.num_sampled_edges == b.num_sampled_edges
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_workers": 2},
        {"num_workers": 2, "persistent_workers": True},
        {"shuffle": False, "drop_last": True, "filter_per_worker": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("memory", ["2MiB", "64MiB"])
def test_batches_are_those_in_memory(graph, options, memory):
    here = {name: options[name] for name in ("shuffle", "drop_last") if name in options}
    # Persistent workers draw from the generator only once.
    if options.get("persistent_workers"):
        here |= {name: options[name] for name in ("num_workers", "persistent_workers")}
    loader = ahead_of(graph, memory, **options)
    before = torch.get_rng_state()
    flash = (batch for _ in range(3) for batch in loader)
    count = 0
    for a, b in zip(in_memory(graph, 3, **here), flash, strict=True):
        assert same(a, b)
        assert b.x.data_ptr() % 64 == 0
        count += 1
    assert count == 3 * len(loader)
    assert torch.equal(before, torch.get_rng_state())
    report = loader.report()
    assert report["batches"] == count and report["most_batches_ahead"] >= 1


class Net(torch.nn.Module):
    def __init__(self, columns, classes):
        super().__init__()
        self.first, self.second = SAGEConv(columns, 16), SAGEConv(16, classes)

    def forward(self, x, edges):
        x = torch.nn.functional.dropout(self.first(x, edges).relu(), training=self.training)
        return self.second(x, edges)


def losses(batches, columns=COLUMNS, classes=5):
    torch.manual_seed(7)
    net = Net(columns, classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    out = []
    for batch in batches:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            net(batch.x, batch.edge_index)[: batch.batch_size], batch.y[: batch.batch_size]
        )
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    return out, [p.detach().clone() for p in net.parameters()]


def test_three_epochs_of_losses_and_weights_are_those_in_memory(graph):
    loader = ahead_of(graph)
    a, weights_a = losses(in_memory(graph, 3))
    b, weights_b = losses(batch for _ in range(3) for batch in loader)
    assert a == b and all(map(torch.equal, weights_a, weights_b))


def test_a_real_graph(tmp_path):
    karate = KarateClub()[0]
    np.save(tmp_path / "x.npy", karate.x.numpy())
    bare = karate.clone()
    del bare.x
    bare.num_nodes = 34

    def loader(data):
        sampler = delayline.pyg.Sampler(data, [4, 4])
        return NodeLoader(data, node_sampler=sampler, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(1))

    flash = delayline.pyg.ahead(loader(bare), x=delayline.Features(tmp_path / "x.npy", memory="2MiB"))
    plain = loader(karate)

    def epochs():
        for epoch in range(30):
            plain.node_sampler.set_epoch(epoch)
            yield from plain

    a, _ = losses(epochs(), 34, 4)
    b, _ = losses((batch for _ in range(30) for batch in flash), 34, 4)
    assert a == b and sum(b[-5:]) < sum(b[:5]) / 2, "something is learned"


def test_epochs_differ_and_repeat(graph):
    first = ahead_of(graph, shuffle=False)
    epochs = [[batch.n_id for batch in first] for _ in range(3)]
    assert first.node_sampler.epoch == 2
    assert not all(map(torch.equal, epochs[0], epochs[1]))
    first.node_sampler.set_epoch(1)
    assert all(torch.equal(a, b.n_id) for a, b in zip(epochs[1], first, strict=True))
    assert all(torch.equal(a, b.n_id) for a, b in zip(epochs[2], first, strict=True)), "and goes on from there"
    other = ahead_of(graph, shuffle=False, sampler_seed=2)
    assert not all(torch.equal(a, b.n_id) for a, b in zip(epochs[0], other, strict=True))


def test_transforms_see_x(graph):
    seen = []

    def transform(batch):
        seen.append(batch.x.shape[0] == batch.num_nodes)
        batch.x = batch.x * 2
        return batch

    def halve(output):
        keep = output.node[: len(output.node) // 2]
        inside = (output.row < len(keep)) & (output.col < len(keep))
        output.node, output.edge = keep, output.edge[inside]
        output.row, output.col = output.row[inside], output.col[inside]
        return output

    loader = ahead_of(graph, transform=transform, transform_sampler_output=halve, num_workers=2)
    for batch in loader:
        assert torch.equal(batch.x, 2 * graph[1].x[batch.n_id])
    assert len(seen) == len(loader) and all(seen)


def test_an_epoch_that_is_left_and_passes_that_overlap(graph):
    loader = ahead_of(graph, num_workers=2)
    for _ in range(3):
        for batch, _ in zip(loader, range(3)):
            assert torch.equal(batch.x, graph[1].x[batch.n_id])
    early = iter(loader)
    next(early)
    late = iter(loader)
    with pytest.raises(RuntimeError, match="started anew"):
        next(early)
    for batch in late:
        assert torch.equal(batch.x, graph[1].x[batch.n_id])


def test_what_does_not_fit_is_an_error(graph, tmp_path):
    bare, full, path = graph
    features = delayline.Features(path, memory="2MiB")
    sampler = delayline.pyg.Sampler(bare, [2])
    loader = NodeLoader(bare, node_sampler=sampler)
    with pytest.raises(ValueError, match="has an x already"):
        delayline.pyg.ahead(NodeLoader(full, node_sampler=sampler), x=features)
    with pytest.raises(TypeError, match="expected a NodeLoader"):
        delayline.pyg.ahead(DataLoader([bare]), x=features)
    with pytest.raises(TypeError, match="expected delayline.Features"):
        delayline.pyg.ahead(loader, x=full.x)
    fewer = Data(edge_index=torch.zeros(2, 1, dtype=torch.int64), num_nodes=NODES - 1)
    fewer = NodeLoader(fewer, node_sampler=delayline.pyg.Sampler(fewer, [2]))
    with pytest.raises(ValueError, match=f"has {NODES - 1} nodes and .* has {NODES} rows"):
        delayline.pyg.ahead(fewer, x=features)
    hetero = HeteroData()
    hetero["a"].x = torch.zeros(3, 2)
    with pytest.raises(TypeError, match="HeteroData"):
        delayline.pyg.Sampler(hetero, [2])
    with pytest.raises(ValueError, match="edge 0 names node 9"):
        delayline.pyg.Sampler(Data(edge_index=torch.tensor([[9], [0]]), num_nodes=3), [2])
    with pytest.raises(ValueError, match="no edge_index"):
        delayline.pyg.Sampler(Data(num_nodes=3), [2])
    with pytest.raises(ValueError, match="0 or more, or -1"):
        delayline.pyg.Sampler(bare, [-3])
    timed = NodeLoader(bare, node_sampler=sampler, input_time=torch.arange(NODES))
    with pytest.raises(ValueError, match="does not sample by time"):
        next(iter(timed))


def test_an_error_ends_the_epoch_and_not_the_loader(graph, tmp_path):
    copy = tmp_path / "x.npy"
    copy.write_bytes(graph[2].read_bytes())
    os.utime(copy, (1, 1))
    loader = delayline.pyg.ahead(loader_of(graph[0]), x=delayline.Features(copy, memory="2MiB"))
    batches = iter(loader)
    next(batches)
    with open(copy, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(OSError, match="has changed"):
        for batch in batches:
            assert torch.equal(batch.x, graph[1].x[batch.n_id])


def test_a_feature_store(graph):
    _, full, path = graph
    store = delayline.pyg.FeatureStore(delayline.Features(path, memory="2MiB"))
    for index in (torch.tensor([5, 1, 5]), slice(10, 20), None, 7):
        expect = full.x if index is None else full.x[[index]] if isinstance(index, int) else full.x[index]
        assert torch.equal(store.get_tensor(group_name=None, attr_name="x", index=index), expect)
    assert tuple(store.get_tensor_size(group_name=None, attr_name="x")) == tuple(full.x.shape)
    with pytest.raises(NotImplementedError, match="read only"):
        store.put_tensor(full.x, group_name=None, attr_name="x", index=None)


def test_bfloat16(tmp_path):
    x = torch.randn(500, 8).to(torch.bfloat16)
    (tmp_path / "x").write_bytes(x.view(torch.uint8).numpy().tobytes())
    features = delayline.Features(tmp_path / "x", memory="2MiB", shape=tuple(x.shape), dtype=torch.bfloat16)
    store = delayline.pyg.FeatureStore(features)
    got = store.get_tensor(group_name=None, attr_name="x", index=torch.arange(0, 500, 7))
    assert got.dtype == torch.bfloat16 and torch.equal(got, x[::7])


def test_a_drive_that_returns_wrong_bytes_ends_the_epoch(tmp_path):
    """Bytes change without a new modification time, as on a drive that fails silently. They
    are compared with the first reading."""
    x = np.random.default_rng().standard_normal((NODES, 512), dtype=np.float32)
    path = tmp_path / "x.npy"
    np.save(path, x)
    edges = torch.from_numpy(np.random.default_rng().integers(0, NODES, (2, 50000)))
    data = Data(edge_index=edges, num_nodes=NODES)
    loader = delayline.pyg.ahead(loader_of_one(data), x=delayline.Features(path, memory="3MiB"))

    def epoch():
        for batch in loader:
            assert np.array_equal(batch.x.numpy(), x[batch.n_id.numpy()]), "no wrong row is returned"

    epoch()
    whole, before = path.read_bytes(), os.stat(path)
    with open(path, "r+b") as file:
        file.seek(128)
        file.write((-x).tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    # The write has changed the inode's ctime. A new hard link is an innocent reason for that.
    os.link(path, tmp_path / "other name")
    with pytest.raises(OSError, match="other bytes came than are known"):
        epoch()
    path.write_bytes(whole)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.link(path, tmp_path / "third name")
    epoch()


def loader_of_one(data):
    return NodeLoader(data, node_sampler=delayline.pyg.Sampler(data, [6, 3]), batch_size=200, shuffle=True)


class Wrong(BaseSampler):
    """Samples a node that the graph does not have."""

    def sample_from_nodes(self, index, **kwargs):
        none = torch.empty(0, dtype=torch.int64)
        node = torch.cat([index.node, torch.tensor([self.also])])
        return SamplerOutput(node=node, row=none, col=none, edge=none, metadata=(index.input_id, None))

    def sample_from_edges(self, index, neg_sampling=None):
        raise NotImplementedError


@pytest.mark.parametrize("also", [NODES, -1, 2**40])
@pytest.mark.parametrize("workers", [0, 2])
def test_ids_out_of_range_end_the_epoch(graph, also, workers):
    sampler = Wrong()
    sampler.also = also
    loader = NodeLoader(graph[0], node_sampler=sampler, batch_size=100, num_workers=workers)
    loader = delayline.pyg.ahead(loader, x=delayline.Features(graph[2], memory="2MiB"))
    for _ in range(2):
        with pytest.raises(IndexError, match=f"row {also} is asked for, but the features have {NODES}"):
            next(iter(loader))


def test_a_file_of_another_shape_in_its_place(graph, tmp_path):
    """If the file is replaced, the one that was opened is still read. If it is overwritten,
    that is an error."""
    path = tmp_path / "x.npy"
    path.write_bytes(graph[2].read_bytes())
    os.utime(path, (1, 1))
    loader = delayline.pyg.ahead(loader_of(graph[0]), x=delayline.Features(path, memory="2MiB"))
    np.save(tmp_path / "new.npy", np.zeros((NODES, 2 * COLUMNS), np.float32))
    os.replace(tmp_path / "new.npy", path)
    for batch in loader:
        assert torch.equal(batch.x, graph[1].x[batch.n_id])
    with pytest.raises(ValueError, match=f"has {NODES} nodes and .* has {NODES // 2} rows"):
        np.save(path, np.zeros((NODES // 2, COLUMNS), np.float32))
        delayline.pyg.ahead(loader_of(graph[0]), x=delayline.Features(path, memory="2MiB"))
    os.utime(path, (1, 1))
    data = Data(edge_index=graph[0].edge_index % (NODES // 2), num_nodes=NODES // 2)
    loader = delayline.pyg.ahead(loader_of_one(data), x=delayline.Features(path, memory="2MiB"))
    next(iter(loader))
    # Overwritten with an array of the same length and another shape.
    np.save(path, np.ones((COLUMNS, NODES // 2), np.float32))
    with pytest.raises(OSError, match="has changed since it was opened"):
        list(loader)
