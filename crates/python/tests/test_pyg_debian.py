"""Trains a network on a real graph: Debian's packages and their dependencies, from the lists
of apt. The network predicts the section of a package from its description and its
neighbours."""

import os
import re
import shutil
import subprocess
import zlib

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader
from torch_geometric.nn import SAGEConv

import delayline
import delayline.pyg

COLUMNS = 256


def cannot_run(why):
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(f"{why}: with CI=true every test must run")
    pytest.skip(why)


def packages():
    """The fields of each package that apt knows, by name."""
    if not shutil.which("apt-get"):
        cannot_run("this is not Debian: there are no lists of packages")
    named = ["apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]
    files = subprocess.run(named, capture_output=True, text=True, check=True).stdout.split()
    files = [file for file in files if os.path.exists(file)]
    if not files:
        cannot_run("apt has no lists of packages; run `apt-get update`")
    found = {}
    for file in files:
        text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", file], capture_output=True, check=True).stdout
        for entry in text.decode(errors="replace").split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", entry, re.MULTILINE))
            if "Package" in fields and "Section" in fields:
                found.setdefault(fields["Package"], fields)
    if len(found) < 20_000:
        cannot_run(f"apt's lists name {len(found)} packages, expected those of a whole Debian")
    return found


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    found = packages()
    number = {name: index for index, name in enumerate(found)}
    sections = [fields["Section"].rsplit("/", 1)[-1] for fields in found.values()]
    classes = {section: index for index, section in enumerate(sorted(set(sections)))}
    x = np.zeros((len(found), COLUMNS), np.float32)
    edges = set()
    for name, fields in found.items():
        for word in re.findall(r"[a-z]{3,}", fields.get("Description", "").lower()):
            x[number[name], zlib.crc32(word.encode()) % COLUMNS] += 1
        for field in ("Depends", "Pre-Depends", "Recommends"):
            for other in re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", fields.get(field, "")):
                if other in number and other != name:
                    edges |= {(number[name], number[other]), (number[other], number[name])}
    edges = torch.tensor(sorted(edges)).t().contiguous()
    path = tmp_path_factory.mktemp("debian") / "x.npy"
    np.save(path, x)
    y = torch.tensor([classes[section] for section in sections])
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    return Data(edge_index=edges, num_nodes=len(y), y=y), torch.from_numpy(x), path, order


class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.second = SAGEConv(COLUMNS, 64), SAGEConv(64, classes)

    def forward(self, x, edges):
        return self.second(self.first(x, edges).relu(), edges)


def accuracy(debian, *, from_flash, sees_edges=True):
    """The accuracy of a network after two epochs, on packages that it was not trained on, and
    its losses. Without edges it sees only the words of each package itself."""
    data, x, path, order = debian
    data, half = data.clone(), len(order) // 2
    if not from_flash:
        data.x = x
    torch.manual_seed(3)
    net = Net(int(data.y.max()) + 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

    def batches(seeds, epochs):
        sampler = delayline.pyg.Sampler(data, [10, 5] if sees_edges else [0, 0], seed=1)
        generator = torch.Generator().manual_seed(4)
        loader = NodeLoader(
            data, node_sampler=sampler, input_nodes=seeds, batch_size=1024, shuffle=True, generator=generator
        )
        if from_flash:
            # Memory for an eighth of the features.
            loader = delayline.pyg.ahead(loader, x=delayline.Features(path, memory=x.nbytes // 8))
        for epoch in range(epochs):
            if not from_flash:
                sampler.set_epoch(epoch)
            yield from loader
        if from_flash:
            report = loader.report()
            assert report["rows_missed"] > 0

    losses, right = [], 0
    for batch in batches(order[:half], 2):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            net(batch.x, batch.edge_index)[: batch.batch_size], batch.y[: batch.batch_size]
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        for batch in batches(order[half:], 1):
            told = net(batch.x, batch.edge_index)[: batch.batch_size].argmax(dim=1)
            right += int((told == batch.y[: batch.batch_size]).sum())
    return right / (len(order) - half), losses


def test_accuracy_equals_memory_and_exceeds_a_network_without_edges(debian):
    flash, memory = accuracy(debian, from_flash=True), accuracy(debian, from_flash=False)
    assert flash == memory
    alone, _ = accuracy(debian, from_flash=True, sees_edges=False)
    print(f"{flash[0]:.3f} with edges, {alone:.3f} without, of {debian[0].num_nodes} packages")
    assert flash[0] > alone + 0.05
