"""What a row of a plan is in torch: operands and call of every operator, and the probes of the machine's peaks.

A builder takes the machine and a row, and returns (() -> operands, operands -> result); the columns are those of a plan.
Needs torch (2.4 or later) and numpy, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from calib.measure_files import Row
from calib.measure_lab import Build, Lab, UnsupportedError, captured

AXES = ("d", "h", "w")
EXTENTS = ("depth", "height", "width")
BACKENDS = {
    "sdpa": "", "sdpa_flash": "FLASH_ATTENTION", "sdpa_efficient": "EFFICIENT_ATTENTION", "sdpa_cudnn": "CUDNN_ATTENTION",
    "sdpa_math": "MATH",
}  # fmt: skip  # names in torch.nn.attention.SDPBackend; '': torch's own choice
SILENT = 256  # iterations of the arithmetic inside one thread of a probe, enough to hide its 8 B of memory traffic
CHAIN = 500  # launches in a row
EXP = "template <typename T> T probe(T x) {{ for (int i = 0; i < {0}; i++) x = __expf(-x); return x; }}"
FMA = (
    "template <typename T> T probe(T x) {{ T y = x + 1, z = x + 2, w = x + 3;"
    " for (int i = 0; i < {0}; i++) {{ x = fmaf(x, x, y); y = fmaf(y, y, z); z = fmaf(z, z, w); w = fmaf(w, w, x); }}"
    " return x + y + z + w; }}"
)


def build(machine: Lab, row: Row) -> Build:
    """Operands and call of a plan's row. UnsupportedError for an operator that is not in the table."""
    op = str(row["op"])
    if op not in OPERATORS:
        raise UnsupportedError(f"unknown operator '{op}'; known: {', '.join(sorted(OPERATORS))}")
    return OPERATORS[op](machine, row)


def number(row: Row, name: str, default: int | None = None) -> int:
    """A whole number of a row; the default where the cell is empty. UnsupportedError where there is neither."""
    text = str(row.get(name) or "")
    if not text and default is None:
        raise UnsupportedError(f"{row['op']} needs '{name}', which is empty")
    return int(float(text)) if text else int(default or 0)


def _numbers(row: Row, *names: str) -> tuple[int, ...]:
    return tuple(number(row, name) for name in names)


def _layout(machine: Lab, row: Row, tensor: Any) -> Any:
    """Channels last where the row's layout is nhwc."""
    torch = machine.torch
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if row.get("layout") != "nhwc" or tensor.dim() not in formats:
        return tensor
    return tensor.contiguous(memory_format=formats[tensor.dim()])


def _conv(machine: Lab, row: Row) -> Build:
    """conv1d, conv2d, conv3d and their transposes; torch's default choice of algorithm."""
    transposed, rank = "transpose" in row["op"], int(str(row["op"])[-2])
    names = AXES[-rank:]
    extents = _numbers(row, *EXTENTS[-rank:])
    kernel = _numbers(row, *(f"kernel_{a}" for a in names))
    stride = tuple(number(row, f"stride_{a}", 1) for a in names)
    padding = tuple(number(row, f"padding_{a}", 0) for a in names)
    n, c, k = _numbers(row, "batch", "in_channels", "out_channels")
    groups, dtype = number(row, "groups", 1), str(row["dtype"])
    weight = (c, k // groups, *kernel) if transposed else (k, c // groups, *kernel)
    function = getattr(machine.torch.nn.functional, str(row["op"]))

    def make() -> Sequence[Any]:
        x, w = (_layout(machine, row, machine.new(dtype, *shape)) for shape in ((n, c, *extents), weight))
        return (x, w, machine.new(dtype, k)) if number(row, "bias", 0) else (x, w, None)

    return make, lambda x, w, b: function(x, w, b, stride=stride, padding=padding, groups=groups)


def _attention(machine: Lab, row: Row) -> Build:
    """Fused by the backend that `implementation` names, or unfused: products, scale and softmax as kernels of their own.
    Layout bshd: operands are views of [batch, length, heads, head_dim] tensors, and the unfused way copies its result back."""
    torch, way, dtype = machine.torch, str(row["implementation"]), str(row["dtype"])
    b, h, q, kv, d = _numbers(row, "batch", "heads", "q_len", "kv_len", "head_dim")
    h_kv, causal, inter = number(row, "kv_heads", h), bool(number(row, "causal", 0)), row.get("layout") == "bshd"

    def tensor(heads: int, length: int) -> Any:
        shape = (b, length, heads, d) if inter else (b, heads, length, d)
        return machine.new(dtype, *shape).transpose(1, 2) if inter else machine.new(dtype, *shape)

    def unfused(x: Any, y: Any, z: Any) -> Any:
        out = torch.matmul(torch.softmax(torch.matmul(x, y.transpose(-1, -2)) * d**-0.5, -1), z)
        return out.transpose(1, 2).contiguous() if inter else out

    def make() -> Sequence[Any]:
        return tensor(h, q), tensor(h_kv, kv), tensor(h_kv, kv)

    if way == "unfused" and (causal or h != h_kv):
        raise UnsupportedError("unfused attention is timed without a mask and with as many kv_heads as heads")
    return make, unfused if way == "unfused" else fused(torch, way, causal, h != h_kv)


def fused(torch: Any, way: str, causal: bool = False, grouped: bool = False) -> Callable[..., Any]:
    """scaled_dot_product_attention held to one backend. UnsupportedError where this torch does not have it."""
    if way not in BACKENDS:
        raise UnsupportedError(f"unknown implementation '{way}'; known: unfused, {', '.join(BACKENDS)}")
    function = torch.nn.functional.scaled_dot_product_attention
    more: dict[str, Any] = {"is_causal": causal, **({"enable_gqa": True} if grouped else {})}
    if not BACKENDS[way]:
        return lambda q, k, v: function(q, k, v, **more)
    attention = torch.nn.attention
    backend = getattr(attention.SDPBackend, BACKENDS[way], None)
    if backend is None:
        raise UnsupportedError(f"torch {torch.__version__} has no attention backend {BACKENDS[way]}")

    def call(q: Any, k: Any, v: Any) -> Any:
        with attention.sdpa_kernel(backend):
            return function(q, k, v, **more)

    return call


def _gemm(machine: Lab, row: Row) -> Build:
    """linear, linear_bias: the weight is stored [n, k] (b_layout nk); bmm: two activations."""
    functional, dtype, bias = machine.torch.nn.functional, str(row["dtype"]), row["op"] == "linear_bias"
    batch, m, n, k = number(row, "batch", 1), *_numbers(row, "m", "n", "k")
    if row["op"] == "bmm":
        shapes = ((batch, m, k), (batch, n, k) if row.get("b_layout") == "nk" else (batch, k, n))
        transposed = row.get("b_layout") == "nk"
        return (
            lambda: tuple(machine.new(dtype, *s) for s in shapes),
            lambda a, b: machine.torch.bmm(a, b.transpose(1, 2) if transposed else b),
        )
    return (
        lambda: (machine.new(dtype, batch * m, k), machine.new(dtype, n, k), machine.new(dtype, n) if bias else None),
        functional.linear,
    )


def _group_norm(machine: Lab, row: Row) -> Build:
    n, c, h, w, groups = _numbers(row, "batch", "channels", "height", "width", "groups")
    dtype, affine = str(row["dtype"]), number(row, "affine", 1)

    def make() -> Sequence[Any]:
        scale = (machine.new(dtype, c), machine.new(dtype, c)) if affine else (None, None)
        return (_layout(machine, row, machine.new(dtype, n, c, h, w)), *scale)

    return make, lambda x, a, b: machine.torch.nn.functional.group_norm(x, groups, a, b)


def _norm(machine: Lab, row: Row) -> Build:
    """layernorm, rmsnorm, softmax over rows x cols along cols."""
    functional, dtype = machine.torch.nn.functional, str(row["dtype"])
    rows, cols = _numbers(row, "rows", "cols")
    weights = {"layernorm": 2, "rmsnorm": 1}.get(str(row["op"]), 0) * number(row, "affine", 1)
    calls: dict[str, Callable[..., Any]] = {
        "layernorm": lambda x, *wb: functional.layer_norm(x, (cols,), *wb),
        "rmsnorm": lambda x, *wb: functional.rms_norm(x, (cols,), *wb),
        "softmax": lambda x: machine.torch.softmax(x, -1),
    }
    return lambda: (machine.new(dtype, rows, cols), *(machine.new(dtype, cols) for _ in range(weights))), calls[
        row["op"]
    ]


def _pointwise(inputs: int, call: Callable[..., Any]) -> Callable[[Lab, Row], Build]:
    """rows x cols elements; `call` takes torch and the operands. A second operand of *_broadcast is rows x 1."""

    def builder(machine: Lab, row: Row) -> Build:
        rows, cols = _numbers(row, "rows", "cols")
        dtype, op = str(row["dtype"]), str(row["op"])
        shapes = [(rows, cols), (rows, 1) if op.endswith("_broadcast") else (rows, cols), (rows, cols)][:inputs]
        if op in ("geglu", "silu_and_mul"):
            shapes = [(rows, 2 * cols)]
        return lambda: tuple(machine.new(dtype, *s) for s in shapes), lambda *x: call(machine.torch, *x)

    return builder


def _geglu(torch: Any, x: Any, gate: Callable[..., Any] | None = None) -> Any:
    a, b = x.chunk(2, -1)
    return a * (gate or torch.nn.functional.gelu)(b)


def _permute(machine: Lab, row: Row) -> Build:
    """[rows, cols, run] -> [cols, rows, run]; to_nhwc and to_nchw: an image from the other layout."""
    torch, dtype = machine.torch, str(row["dtype"])
    if row["op"] == "permute":
        a, b, run = _numbers(row, "rows", "cols", "run")
        return lambda: (machine.new(dtype, a, b, run),), lambda x: x.transpose(0, 1).contiguous()
    n, c, h, w = _numbers(row, "batch", "channels", "height", "width")
    last, first = torch.channels_last, torch.contiguous_format
    source, target = (first, last) if row["op"] == "to_nhwc" else (last, first)
    return (
        lambda: (machine.new(dtype, n, c, h, w).contiguous(memory_format=source),),
        lambda x: x.contiguous(memory_format=target),
    )


def _cat(machine: Lab, row: Row) -> Build:
    """Two tensors of batch x in_channels and batch x out_channels rows of `cols`, joined along the channels."""
    n, c, k, cols = _numbers(row, "batch", "in_channels", "out_channels", "cols")
    dtype = str(row["dtype"])
    return lambda: (machine.new(dtype, n, c, cols), machine.new(dtype, n, k, cols)), lambda x, y: machine.torch.cat(
        (x, y), 1
    )


def _upsample(machine: Lab, row: Row) -> Build:
    n, c, h, w = _numbers(row, "batch", "channels", "height", "width")
    call = machine.torch.nn.functional.interpolate
    return (
        lambda: (_layout(machine, row, machine.new(str(row["dtype"]), n, c, h, w)),),
        lambda x: call(x, scale_factor=2.0, mode="nearest"),
    )


OPERATORS: Mapping[str, Callable[[Lab, Row], Build]] = {
    **{f"conv{'_transpose' if t else ''}{r}d": _conv for t in (0, 1) for r in (1, 2, 3)},
    **dict.fromkeys(("encoder", "prefill", "decode"), _attention),
    **dict.fromkeys(("linear", "linear_bias", "bmm"), _gemm),
    "groupnorm": _group_norm,
    **dict.fromkeys(("layernorm", "rmsnorm", "softmax"), _norm),
    "add": _pointwise(2, lambda _, x, y: x + y),
    "mul": _pointwise(2, lambda _, x, y: x * y),
    "add_broadcast": _pointwise(2, lambda _, x, y: x + y),
    "addcmul": _pointwise(3, lambda torch, x, y, z: torch.addcmul(x, y, z)),
    "mul_scalar": _pointwise(1, lambda _, x: x * 1.5),
    "silu": _pointwise(1, lambda torch, x: torch.nn.functional.silu(x)),
    "gelu": _pointwise(1, lambda torch, x: torch.nn.functional.gelu(x)),
    "exp": _pointwise(1, lambda _, x: x.exp()),
    "geglu": _pointwise(1, _geglu),
    "silu_and_mul": _pointwise(1, lambda torch, x: _geglu(torch, x, torch.nn.functional.silu)),
    "copy": _pointwise(1, lambda _, x: x.clone()),
    **dict.fromkeys(("permute", "to_nhwc", "to_nchw"), _permute),
    "cat": _cat,
    "upsample_nearest2d": _upsample,
}


# ---- peaks -----------------------------------------------------------------------------------------------------------

# probe, dtype, size (bytes, or the extent of a square product), condition, amount, unit, builder. The value of a probe is
# amount / latency in that unit; where the unit is us, latency / amount.
Probe = tuple[str, str, int, str, float, str, Callable[[Lab], Build]]


def probes(kind: str) -> Iterator[Probe]:
    """What the peaks of a device are read from; sizes in bytes, or the extent of a square product."""
    large = kind == "cuda"
    for power in range(16, 32 if large else 26):
        yield "copy_bandwidth", "fp16", 1 << power, "warm", 2.0 * (1 << power), "B/s", _copy(1 << power)
    for power in range(20, 29 if large else 25):
        total = (1 << 31 if large else 1 << 26) // (1 << power) * (1 << power)
        yield "read_by_footprint", "fp32", 1 << power, "warm", float(total), "B/s", _reread(1 << power, total)
    for dtype in ("fp16", "bf16", "tf32", "fp32", "int8", "fp8"):
        for n in (4096, 8192) if large else (256,):
            yield "gemm", dtype, n, "warm", 2.0 * n**3, "FLOP/s", _square(dtype, n)
    count = 1 << 24 if large else 1 << 16
    yield "exp", "fp32", count, "warm", float(count * SILENT), "op/s", _jit(EXP, count)
    yield "fma", "fp32", count, "warm", 8.0 * count * SILENT, "FLOP/s", _jit(FMA, count)
    for condition in ("warm", "cold", "eager"):  # in a graph; between two events after a flush; one eager call
        yield "empty_kernel", "fp32", 1, condition, 1.0, "us", _tiny
    yield "host_launch", "fp32", 1, "eager", CHAIN, "us", _chain(False)
    yield "graph_launch", "fp32", 1, "eager", CHAIN, "us", _chain(True)


def _copy(size: int) -> Callable[[Lab], Build]:
    return lambda lab: (lambda: (lab.new("fp16", size // 2), lab.new("fp16", size // 2)), lambda x, y: y.copy_(x))


def _reread(size: int, total: int) -> Callable[[Lab], Build]:
    """Sums of one buffer, many times over: the rows of the view all lie in the same `size` bytes."""
    return lambda lab: (lambda: (lab.new("fp32", size // 4),), lambda x: x.expand(total // size, -1).sum(1))


def _tiny(machine: Lab) -> Build:
    return lambda: (machine.new("fp32", 1),), lambda x: x.add_(1.0)


def _square(dtype: str, n: int) -> Callable[[Lab], Build]:
    """A n x n x n product: torch.matmul, or the products that torch keeps private for int8 and fp8."""

    def builder(machine: Lab) -> Build:
        torch = machine.torch

        def tf32(a: Any, b: Any) -> Any:
            torch.backends.cuda.matmul.allow_tf32 = True
            try:
                return a @ b
            finally:
                torch.backends.cuda.matmul.allow_tf32 = False

        one = torch.ones((), device=machine.kind)

        def fp8(a: Any, b: Any) -> Any:
            return torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

        if dtype in ("tf32", "fp8") and machine.kind == "cpu":
            raise UnsupportedError(f"a CPU has no {dtype} product")
        private = {"int8": "_int_mm", "fp8": "_scaled_mm"}.get(dtype, "matmul")
        if not hasattr(torch, private):
            raise UnsupportedError(f"torch {torch.__version__} has no {dtype} product ({private})")
        calls = {"tf32": tf32, "fp8": fp8, "int8": lambda a, b: torch._int_mm(a, b.t())}
        return lambda: (machine.new(dtype, n, n), machine.new(dtype, n, n)), calls.get(dtype, torch.matmul)

    return builder


def _jit(code: str, count: int) -> Callable[[Lab], Build]:
    """A pointwise kernel of our own, compiled by torch at run time."""

    def builder(machine: Lab) -> Build:
        if machine.kind != "cuda":
            raise UnsupportedError("the arithmetic probes are CUDA code")
        kernel = machine.torch.cuda.jiterator._create_jit_fn(code.format(SILENT))
        return lambda: (machine.new("fp32", count).abs_(),), kernel

    return builder


def _chain(graph: bool) -> Callable[[Lab], Build]:
    """Host time per launch: CHAIN tiny kernels in a row, launched one by one or each as a graph. The host is slower than
    such a kernel, so the events around the chain time the host."""

    def builder(machine: Lab) -> Build:
        if machine.kind != "cuda":
            raise UnsupportedError("a CPU launches nothing")
        x = machine.new("fp32", 1)

        def eager() -> Any:
            return x.add_(1.0)

        launch = captured(machine, eager) if graph else eager

        def call(_: Any) -> Any:
            for _ in range(CHAIN):
                launch()
            return x

        return lambda: (x,), call

    return builder
