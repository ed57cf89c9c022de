"""Code weights by nncodec, in an environment of its own: a script that imports nothing of lib.

python coder.py WEIGHTS CODED DECODED OPTIONS: from a safetensors file of float32 arrays to the
standard's file, and back from this; with a JSON object of nncodec's options.
"""

import json
import sys
import types
from pathlib import Path

# Its wrappers of torch and TensorFlow, which arrays do not need and which need much else.
for name in ("pytorch_model", "tensorflow_model", "use_case_init"):
    name = f"nncodec.framework.{name}"
    sys.modules[name] = types.ModuleType(name)

from nncodec.nnc import compress, decompress  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402


def main(weights, coded, decoded, options):
    """Code and decode."""
    made = compress(
        load_file(weights), bitstream_path=None, return_bitstream=True, **json.loads(options)
    )
    Path(coded).write_bytes(made)
    save_file(decompress(bytearray(made)), decoded)


if __name__ == "__main__":
    main(*sys.argv[1:])
