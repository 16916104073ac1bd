"""Exports three policies, runs the files in onnxruntime, and compares with NumPy and `transformers`.

python tests/golden/onnx.py --trajformer target/debug/trajformer

Writes onnx.safetensors: inputs, what onnxruntime answered, and the CRC-32 of the files, which a Rust test makes again.
`onnx/bc` and `onnx/bear` are run directories (made once with this program; BEAR's is exported as its actor's mean); the Decision Transformer is that of hub/decision_transformer
with onnx/policy.safetensors, which this script writes, beside it. Run with onnxruntime 1.32.0, transformers 5.24.0.
"""

import argparse
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.numpy import load_file, save_file
from transformers import DecisionTransformerModel

from authors import HERE, save

CONTEXT = 20
RETURN_SCALE = 1000.0


def export(binary, folder, out):
    subprocess.run([binary, "export", folder, out], check=True, stdout=subprocess.DEVNULL)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    return session, zlib.crc32(out.read_bytes())


def check(name, found, expected):
    worst = np.abs(found - expected).max()
    print(f"{name}: largest difference {worst:.1e}")
    assert worst < 1e-5


def actor(binary, folder, generator, name):
    """A run's actor; of Gaussian ones the mean, which is the first half of what the last layer gives."""
    session, crc = export(binary, HERE / "onnx" / name, folder / f"{name}.onnx")
    model, policy = (load_file(HERE / "onnx" / name / f"{part}.safetensors") for part in ("model", "policy"))
    observation = generator.normal(size=(5, 3)).astype(np.float32)
    x = (observation - policy["normalizer.mean"]) / policy["normalizer.scale"]
    layers = sorted({int(key.split(".")[2]) for key in model if key.startswith("actor.net.")})
    for layer in layers:
        x = x @ model[f"actor.net.{layer}.weight"].T + model[f"actor.net.{layer}.bias"]
        x = np.maximum(x, 0) if layer != layers[-1] else np.tanh(x[:, : policy["action_bounds.half"].size])
    expected = x * policy["action_bounds.half"] + policy["action_bounds.center"]
    action = session.run(None, {"observation": observation})[0]
    check(name, action, expected)
    return {f"{name}.observation": observation, f"{name}.action": action}, crc


def described(session):
    """The file says how it is used from step to step."""
    notes = session.get_modelmeta()
    for text in (notes.description, notes.graph_description):
        assert "less the reward received" in text and "divides returns by 1000" in text, text


def completed(run):
    """The tiny model with what stands beside the weights, bounds that are not ±1."""
    policy = {"normalizer.mean": np.array([0.1, -0.2, 0.3], np.float32), "normalizer.scale": np.array([0.7, 0.6, 3.0], np.float32),
              "action_bounds.center": np.array([0.5], np.float32), "action_bounds.half": np.array([2.0], np.float32),
              "best_return": np.array(-300.0)}  # fmt: skip
    save_file(policy, HERE / "onnx" / "policy.safetensors")
    run.mkdir()
    for path in [HERE / "onnx/policy.safetensors", *(HERE / "hub/decision_transformer").glob("[cm]*")]:
        shutil.copy(path, run)
    return policy


def decision_transformer(binary, folder, generator):
    policy = completed(folder / "run")
    session, crc = export(binary, folder / "run", folder / "dt.onnx")
    described(session)
    model = DecisionTransformerModel.from_pretrained(folder / "run").eval()
    batch, lengths = 3, [20, 6, 1]
    mask = np.array([[step >= CONTEXT - length for step in range(CONTEXT)] for length in lengths], np.float32)
    inputs = {
        "observations": generator.normal(size=(batch, CONTEXT, 3)),
        "actions": generator.uniform(-1, 2, size=(batch, CONTEXT, 1)),
        "returns_to_go": generator.uniform(-900, 0, size=(batch, CONTEXT, 1)),
        "attention_mask": mask,
    }
    inputs = {name: value.astype(np.float32) for name, value in inputs.items()}
    # The last row goes beyond the last step that the network knows, which its steps then count as.
    inputs["timesteps"] = (np.arange(CONTEXT)[None] + np.array([[0], [9], [55]])).astype(np.int64)
    known = inputs["timesteps"].clip(max=model.config.max_ep_len - 1)
    assert (known != inputs["timesteps"]).any()
    answer = session.run(None, inputs)[0]
    tensor = torch.from_numpy
    with torch.no_grad():
        output = model(
            states=tensor((inputs["observations"] - policy["normalizer.mean"]) / policy["normalizer.scale"]),
            actions=tensor((inputs["actions"] - policy["action_bounds.center"]) / policy["action_bounds.half"]),
            returns_to_go=tensor(inputs["returns_to_go"] / RETURN_SCALE),
            timesteps=tensor(known),
            attention_mask=tensor(mask).long(),
        )
    expected = output.action_preds[:, -1].numpy() * policy["action_bounds.half"] + policy["action_bounds.center"]
    check("decision_transformer", answer, expected)
    tensors = {f"decision_transformer.{name}": value for name, value in inputs.items()}
    return tensors | {"decision_transformer.action": answer}, crc


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajformer", required=True, type=Path)
    binary = parser.parse_args().trajformer.resolve()
    generator = np.random.default_rng(8)
    with tempfile.TemporaryDirectory() as folder:
        bc, bc_crc = actor(binary, Path(folder), generator, "bc")
        dt, dt_crc = decision_transformer(binary, Path(folder), generator)
        bear, bear_crc = actor(binary, Path(folder), generator, "bear")
    tensors = {name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in (bc | dt | bear).items()}
    checksums = {"bc.crc32": bc_crc, "decision_transformer.crc32": dt_crc, "bear.crc32": bear_crc}
    save("onnx", tensors, {"onnxruntime": onnxruntime.__version__} | checksums)


if __name__ == "__main__":
    main()
