"""framecast's dtype names <-> torch's. torch is imported when called."""

from __future__ import annotations

from typing import Any

_TORCH = {
    "fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int64": "int64", "int32": "int32",
    "int8": "int8", "bool": "bool", "fp8": "float8_e4m3fn",
}  # fmt: skip


def torch_dtype(name: str) -> Any:
    """'fp16' -> torch.float16. Raises KeyError for a dtype that framecast does not know."""
    import torch

    return getattr(torch, _TORCH[name])


def dtype_name(dtype: Any) -> str:
    """torch.float16 -> 'fp16'; other integer and float types map to the one of their width."""
    text = str(dtype).removeprefix("torch.")
    for name, torch_name in _TORCH.items():
        if torch_name == text:
            return name
    return {"uint8": "int8", "int16": "fp16", "float8_e5m2": "fp8"}.get(text, "fp32")
