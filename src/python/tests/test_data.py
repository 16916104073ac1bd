"""Data sets to and from NumPy, and training on them."""

import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import trajformer

CONFIG = {
    "seed": 3,
    "train": {"updates": 12, "checkpoint_every_updates": 4},
    "algorithm": {"td3_bc": {"batch_size": 16, "hidden": [16, 16]}},
}


def arrays(steps=60):
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(steps, 3)),
        "actions": rng.uniform(-1, 1, size=(steps, 2)),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "terminals": np.arange(steps) % 20 == 19,
        "timeouts": np.zeros(steps, dtype=np.uint8),
    }


def test_arrays_come_back_without_a_copy_and_read_only():
    given = arrays()
    data = trajformer.Dataset.from_arrays(**given)
    assert (len(data), data.observation_dim, data.action_dim) == (60, 3, 2)
    for name, shape in (("observations", (60, 3)), ("actions", (60, 2)), ("rewards", (60,))):
        first, second = getattr(data, name), getattr(data, name)
        assert first.dtype == np.float32 and first.shape == shape
        assert np.array_equal(first, given[name].astype(np.float32))
        assert np.shares_memory(first, second) and first.ctypes.data == second.ctypes.data
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 0
        with pytest.raises(ValueError):
            first.flags.writeable = True
    assert np.array_equal(data.terminals, given["terminals"])
    assert not data.timeouts.any()
    assert data.episode_lengths.tolist() == [20, 20, 20]
    expected = given["rewards"].astype(np.float64).reshape(3, 20).sum(axis=1)
    assert np.allclose(data.returns, expected, rtol=0, atol=1e-12)


def test_an_array_outlives_the_name_of_its_data_set():
    observations = trajformer.Dataset.from_arrays(**arrays()).observations
    junk = [np.full((60, 3), 7.0, dtype=np.float32) for _ in range(100)]
    assert np.array_equal(observations, arrays()["observations"].astype(np.float32))
    del junk


def test_it_is_saved_and_loaded(tmp_path):
    data = trajformer.Dataset.from_arrays(**arrays(), env_name="Mine-v0", action_low=[-1, -1], action_high=[1, 1])
    for name in ("data.npz", "data.hdf5"):
        data.save(tmp_path / name)
        again = trajformer.Dataset.load(str(tmp_path / name))
        assert np.array_equal(again.observations, data.observations)
        assert again.env_name == "Mine-v0"
    both = trajformer.Dataset.load([tmp_path / "data.npz", tmp_path / "data.hdf5"])
    assert len(both) == 120


def test_layouts_of_memory_make_no_difference():
    given = arrays()
    odd = {name: np.asfortranarray(values) for name, values in given.items()}
    odd["observations"] = np.repeat(given["observations"], 2, axis=0)[::2]
    odd["rewards"] = given["rewards"].tolist()
    found = trajformer.Dataset.from_arrays(**odd)
    expected = trajformer.Dataset.from_arrays(**given)
    for name in ("observations", "actions", "rewards"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"rewards": np.zeros(59)}, ValueError, "`rewards` has 59 rows, expected 60"),
        ({"observations": np.zeros(60)}, ValueError, "`observations` has rank 1"),
        ({"observations": np.full((60, 3), np.inf)}, ValueError, "row 0, column 0: inf"),
        ({"actions": np.array([["a"]] * 60)}, TypeError, "`actions` has dtype <U1"),
        ({"terminals": None, "timeouts": None}, ValueError, "nothing says where episodes end"),
        ({"terminals": np.full(60, 0.5)}, ValueError, "`terminals`, row 0: 0.5"),
    ],
)
def test_what_is_wrong_with_arrays_is_named(change, error, words):
    with pytest.raises(error, match=words):
        trajformer.Dataset.from_arrays(**(arrays() | change))


def test_a_file_that_is_not_there_is_not_found(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        trajformer.Dataset.load(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError, match="has not been fetched"):
        monkeypatch.setenv("TRAJFORMER_DATA", str(tmp_path))
        trajformer.Dataset.load("antmaze-umaze-v2")


def networks(run):
    return (run / "model.safetensors").read_bytes()


def test_training_gives_the_bits_of_the_command(program, tmp_path):
    data = trajformer.Dataset.from_arrays(**arrays())
    data.save(tmp_path / "data.npz")
    toml = tmp_path / "config.toml"
    toml.write_text(
        "seed = 3\n[data]\npath = 'data.npz'\n[train]\nupdates = 12\ncheckpoint_every_updates = 4\n"
        "[algorithm.td3_bc]\nbatch_size = 16\nhidden = [16, 16]\n"
    )
    command = [program, "train", "config.toml", "--out", "theirs"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    expected = networks(tmp_path / "theirs")

    on_disk = trajformer.fit(data, CONFIG, tmp_path / "ours")
    assert networks(tmp_path / "ours") == expected
    in_memory = trajformer.fit(data, toml.read_text())
    in_memory.save(tmp_path / "saved")
    assert networks(tmp_path / "saved") == expected
    trajformer.fit(tmp_path / "data.npz", toml, tmp_path / "of-files")
    assert networks(tmp_path / "of-files") == expected
    assert on_disk.updates == in_memory.updates == 12
    observation = data.observations[:5]
    assert np.array_equal(on_disk.act(observation), in_memory.act(observation))


def test_a_run_is_not_overwritten_and_goes_on_with_its_own_data_only(tmp_path):
    data = trajformer.Dataset.from_arrays(**arrays())
    trajformer.fit(data, CONFIG, tmp_path / "run")
    with pytest.raises(FileExistsError, match="there is a run already"):
        trajformer.fit(data, CONFIG, tmp_path / "run")
    whole = trajformer.fit(data, CONFIG, tmp_path / "whole", overrides=["train.updates=20"])
    longer = trajformer.fit(data, CONFIG, tmp_path / "run", resume=True, overrides=["train.updates=20"])
    assert longer.updates == whole.updates == 20
    assert networks(tmp_path / "run") == networks(tmp_path / "whole")
    other = trajformer.Dataset.from_arrays(**(arrays() | {"rewards": np.ones(60)}))
    with pytest.raises(RuntimeError, match="checksum"):  # though nothing is left to do
        trajformer.fit(other, CONFIG, tmp_path / "run", resume=True, overrides=["train.updates=20"])


def test_a_wrong_configuration_names_the_key():
    data = trajformer.Dataset.from_arrays(**arrays())
    with pytest.raises(ValueError, match="batchsize"):
        trajformer.fit(data, {"algorithm": {"td3_bc": {"batchsize": 3}}})
    with pytest.raises(ValueError, match="TOML has no None"):
        trajformer.fit(data, {"evaluate": {"env": None}, "algorithm": {"td3_bc": {}}})
    with pytest.raises(FileNotFoundError):
        trajformer.fit(data, "missing.toml")
    with pytest.raises(TypeError, match="expected a dict"):
        trajformer.fit(data, 3)


def test_other_threads_go_on_while_it_trains():
    data = trajformer.Dataset.from_arrays(**arrays())
    ticks, ended = [], threading.Event()

    def tick():
        while not ended.wait(0.001):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    trajformer.fit(data, CONFIG, overrides=["train.updates=3000"])
    end = time.monotonic()
    ended.set()
    thread.join()
    assert sum(begin < at < end for at in ticks) > 10


def test_ctrl_c_leaves_a_checkpoint(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, numpy as np, trajformer\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_data import CONFIG, arrays\n"
        "data = trajformer.Dataset.from_arrays(**arrays())\n"
        "try:\n"
        "    print('training', flush=True)\n"
        "    trajformer.fit(data, CONFIG, 'run', overrides=['train.updates=1000000'])\n"
        "except KeyboardInterrupt as stopped:\n"
        "    print(stopped)\n"
    )
    # A shell's background jobs ignore Ctrl-C, and so would what they start.
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen([sys.executable, script], cwd=tmp_path, stdout=subprocess.PIPE, text=True, preexec_fn=heard)
    assert child.stdout.readline() == "training\n"
    while not (tmp_path / "run/state.toml").exists():
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert "with a checkpoint in run" in said, said
    assert trajformer.load(tmp_path / "run").updates > 0


def test_what_it_reports_goes_to_logging(caplog):
    data = trajformer.Dataset.from_arrays(**arrays())
    sizes = {"layers": 1, "heads": 1, "embedding": 8, "context_steps": 4, "batch_size": 4}
    config = {"train": {"updates": 1}, "algorithm": {"decision_transformer": sizes}}
    with caplog.at_level(logging.INFO, logger="trajformer"):
        trajformer.fit(data, config)
    said = [record.getMessage() for record in caplog.records if record.name == "trajformer"]
    assert any("the data's best return" in line for line in said), said


def test_it_has_a_version_and_describes_itself():
    assert trajformer.__version__.count(".") == 2
    for thing in (trajformer.load, trajformer.fit, trajformer.Policy.act, trajformer.Dataset.from_arrays):
        assert thing.__doc__
    data = trajformer.Dataset.from_arrays(**arrays())
    assert repr(data) == "Dataset(60 steps, 3 episodes, observation_dim=3, action_dim=2)"
