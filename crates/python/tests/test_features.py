"""Features without PyTorch: files of NumPy, and exceptions."""

import os
import threading

import numpy as np
import pytest

import delayline


@pytest.fixture
def saved(tmp_path):
    x = np.random.default_rng().standard_normal((5000, 33), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    return x, tmp_path / "x.npy"


def rows(features, ids, dtype):
    ids = np.asarray(ids, dtype=np.int64)
    return np.frombuffer(features.gather(ids), dtype=dtype).reshape(len(ids), -1)


def test_rows_are_those_of_numpy(saved):
    x, path = saved
    features = delayline.Features(path, memory="2MiB")
    assert features.shape == x.shape and features.dtype == "float32" and len(features) == 5000
    for seed in range(5):
        ids = np.random.default_rng(seed).integers(0, 5000, 700)
        assert (rows(features, ids, np.float32) == x[ids]).all()
    assert len(features.gather(np.empty(0, np.int64))) == 0
    report = features.report()
    assert report["rows"] == 3500 and 0 < report["rows_missed"] <= 3500
    assert "rows     3,500 in 6 batches" in str(report)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, np.uint8])
def test_types_of_elements(tmp_path, dtype):
    x = np.random.default_rng().integers(0, 100, (1000, 7)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    ids = np.arange(0, 1000, 3)
    assert (rows(delayline.Features(tmp_path / "x.npy", memory="2MiB"), ids, dtype) == x[ids]).all()
    (tmp_path / "x.bin").write_bytes(b"12345" + x.tobytes())
    raw = delayline.Features(
        str(tmp_path / "x.bin"), memory=2 << 20, shape=x.shape, dtype=np.dtype(dtype).name, offset=5
    )
    assert (rows(raw, ids, dtype) == x[ids]).all()


def test_what_cannot_be_read_is_an_error(saved, tmp_path):
    x, path = saved
    np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
    np.save(tmp_path / "big.npy", x.astype(">f4"))
    np.save(tmp_path / "objects.npy", np.array([["a"], [1]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=x)
    np.save(tmp_path / "flat.npy", x.reshape(-1))
    short = path.read_bytes()[:-1]
    (tmp_path / "short.npy").write_bytes(short)
    for name, words in [
        ("fortran.npy", "Fortran order"),
        ("big.npy", "big-endian"),
        ("objects.npy", "cannot be read"),
        ("x.npz", "npz archive"),
        ("flat.npy", "expected two dimensions"),
        ("short.npy", "it is cut short"),
    ]:
        with pytest.raises(ValueError, match=words):
            delayline.Features(tmp_path / name, memory="2MiB")
    with pytest.raises(FileNotFoundError):
        delayline.Features(tmp_path / "nowhere.npy", memory="2MiB")
    for memory, words in [("10KiB", "allow at least"), ("much", "expected a size"), (-1, "expected a size")]:
        with pytest.raises(ValueError, match=words):
            delayline.Features(path, memory=memory)
    features = delayline.Features(path, memory="2MiB")
    for wrong in (5000, -1, 2**40):
        with pytest.raises(IndexError, match=f"row {wrong} is asked for, but the features have 5000"):
            features.gather(np.array([0, wrong]))
    for wrong in (np.array([1.0]), np.zeros((2, 2), np.int64), np.arange(10)[::2], np.array([1], np.int32)):
        with pytest.raises(ValueError, match="expected ids"):
            features.gather(wrong)


def test_a_file_that_changes(saved):
    _, path = saved
    os.utime(path, (1, 1))
    features = delayline.Features(path, memory="2MiB")
    features.gather(np.array([1]))
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"x")
    with pytest.raises(OSError, match="has changed since it was opened"):
        features.gather(np.array([1]))


def test_a_forked_process_gets_an_error_and_does_no_harm(saved):
    x, path = saved
    features = delayline.Features(path, memory="2MiB")
    features.gather(np.array([1]))
    child = os.fork()
    if child == 0:
        try:
            features.gather(np.array([1]))
        except RuntimeError as error:
            os._exit(0 if "a forked worker has neither" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (rows(features, [4999, 1], np.float32) == x[[4999, 1]]).all()
    child = os.fork()
    if child == 0:
        # Must not wait for the thread, which only the parent has.
        del features
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_several_threads(saved):
    x, path = saved
    features = delayline.Features(path, memory="2MiB")
    wrong = []

    def work(seed):
        for _ in range(20):
            ids = np.random.default_rng(seed).integers(0, 5000, 100)
            wrong.extend(ids[(rows(features, ids, np.float32) != x[ids]).any(axis=1)])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
