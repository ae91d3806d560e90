"""Compute the right contents of a GGUF file without redraft, by the tables and quantisation of gguf.

Only Llama models are supported. The order of the rows of q and k is that of llama.cpp, written again here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

Array = Any  # a numpy array


def tensors_for(folder: Path) -> Iterator[tuple[str, Array]]:
    import gguf
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for path in sorted(folder.glob("*.safetensors")):
        for name, value in load_file(path).items():
            module = name.removesuffix(".weight")
            array = value.float().numpy()
            if count := heads.get(module.rpartition(".")[2]):
                rows, columns = array.shape
                halves = array.reshape(count, 2, rows // count // 2, columns)
                array = halves.swapaxes(1, 2).reshape(rows, columns)
            yield f"{names.get_name(module)}.weight", array


def read(file: Path) -> dict[str, tuple[Array, Any]]:
    import gguf

    return {tensor.name: (tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(file).tensors}


def same_bits(one: Array, other: Array) -> bool:
    import numpy as np

    flat = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other)]
    return bool(np.array_equal(*flat))


def as_float32(source: Path, folder: Path, out: Path) -> Path:
    """Write a copy of a GGUF file with a folder's values in float32, which `weights gguf` cannot write."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name == "general.architecture" or name.startswith("GGUF."):
            continue  # the writer's own
        array = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        value = 0 if name == "general.file_type" else field.contents()  # 0: all in float32
        writer.add_key_value(name, value, field.types[0], sub_type=array)
    for name, values in tensors_for(folder):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
