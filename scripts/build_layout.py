"""Builds models/minilm-l6-v2-int8.layout: how build.rs lays the model's weights out for the runtime.

rten reads its own format in place and copies every weight out of an ONNX file: 35 MB more in memory. The two files
hold the same weights, so only what is between them is kept (344 kB), and build.rs puts the two together.

Owns: the layout. Leaves: the model itself (build_model.py) and the assembly (build.rs).
The layout is a list of records, little-endian: u32 n, n bytes to write, u64 offset and u64 length of a piece of the
ONNX file to write after them.

    python3 -m venv venv
    venv/bin/pip install numpy==2.4.6 onnx==1.23.2 rten-convert==0.22.0
    venv/bin/python scripts/build_layout.py models
"""

import hashlib
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

# Below this a piece is not worth a record.
SMALLEST_PIECE = 1024


def converted(model: Path) -> bytes:
    """The model in the runtime's format, by its own converter."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.rten"
        converter = Path(sys.executable).with_name("rten-convert")
        subprocess.run([converter, model, output], check=True, stdout=subprocess.DEVNULL)
        return output.read_bytes()


def shared_pieces(model: Path, source: bytes, target: bytes) -> list[tuple[int, int, int]]:
    """(offset in target, offset in source, length) of each weight that both files hold, in the target's order."""
    weights = {initializer.raw_data for initializer in onnx.load(model).graph.initializer}
    weights = [weight for weight in weights if len(weight) >= SMALLEST_PIECE and weight in target]
    pieces = sorted((target.index(weight), source.index(weight), len(weight)) for weight in weights)
    for before, after in zip(pieces, pieces[1:]):
        if before[0] + before[2] > after[0]:
            sys.exit(f"two weights overlap at {after[0]}")
    return pieces


def layout(target: bytes, pieces: list[tuple[int, int, int]]) -> bytes:
    records, written = [], 0
    for start, source_start, length in [*pieces, (len(target), 0, 0)]:
        literal = target[written:start]
        records.append(struct.pack("<I", len(literal)) + literal + struct.pack("<QQ", source_start, length))
        written = start + length
    return b"".join(records)


def main() -> None:
    models = Path(sys.argv[1])
    model = models / "minilm-l6-v2-int8.onnx"
    source, target = model.read_bytes(), converted(model)
    output = models / "minilm-l6-v2-int8.layout"
    output.write_bytes(layout(target, shared_pieces(model, source, target)))
    for name, data in [("assembled", target), (output.name, output.read_bytes())]:
        print(f"{name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
