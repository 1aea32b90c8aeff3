"""Reading and changing the one .safetensors file of a checkpoint that `forerun synth` or `forerun quantize` wrote."""
import json
import mmap
import os
import struct


class Checkpoint:
    """tensors: name -> (dtype, shape, bytes); the bytes are those of the file and may be written to where writable is set."""

    def __init__(self, directory, writable=False):
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
            self.config = json.load(file)
        names = [name for name in os.listdir(directory) if name.endswith(".safetensors")]
        if len(names) != 1:
            raise SystemExit(f"{directory}: {len(names)} .safetensors files, expected 1 (synth and quantize: --shard-bytes)")
        with open(os.path.join(directory, names[0]), "r+b" if writable else "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ))
        length = struct.unpack("<Q", data[:8])[0]
        self.tensors = {}
        for name, entry in json.loads(bytes(data[8 : 8 + length])).items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                self.tensors[name] = (entry["dtype"], entry["shape"], data[begin:end])

    def bf16(self, name):
        """Shape and bytes of a BF16 matrix or vector."""
        dtype, shape, data = self.tensors[name]
        if dtype != "BF16":
            raise SystemExit(f"{name}: {dtype}, expected BF16")
        return shape, data
