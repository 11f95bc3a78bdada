"""Measurement tables: every bad row and file, word for word; work against the operator kinds; schema of public tables."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import framecast
from calib.devices import device_ids, peaks
from calib.make import predicted_table
from calib.shapes import FAMILIES, At, rows_of
from calib.table import DTYPES, read
from calib.work import NEEDS
from hwspecs.device import device_names
from hwspecs.errors import CalibrationError
from sim.cost import cost
from tests import build
from workloads.kind import kinds

HEAD = "source,device,software,op,dtype,batch,m,n,k,latency_us,timing"
GOOD = "x,A100-SXM4-80GB,torch,linear,bf16,1,4096,4096,4096,600,kernel"  # 229 TFLOP/s


def write(tmp_path: Path, *lines: str, head: str = HEAD, name: str = "a100.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join((head, *lines)) + "\n")
    return path


def changed(**cells: Any) -> str:
    """The good row with other cells."""
    return ",".join(str(cells.get(name, value)) for name, value in zip(HEAD.split(","), GOOD.split(","), strict=True))


@pytest.mark.parametrize(
    ("row", "why", "message"),
    [
        (changed(latency_us=-3.1), "latency not positive", "latency is not positive (-3.1)"),
        (changed(latency_us=0), "latency not positive", "latency is not positive (0)"),
        (changed(latency_us=""), "latency not finite", "latency is not a finite number (nan)"),
        (changed(latency_us="inf"), "latency not finite", "latency is not a finite number (inf)"),
        (changed(latency_us="fast"), "latency not finite", "latency is not a finite number (nan)"),
        (changed(device="A1000"), "unknown device", "unknown device 'A1000'; did you mean 'a100'?"),
        (changed(device="H100 NVL"), "unknown device", "unknown device 'H100 NVL'; did you mean 'h100'?"),
        (changed(device="T4", dtype="bf16", m=64), "dtype that the device lacks", "t4 has no bf16"),
        (changed(dtype="fp8"), "dtype that the device lacks", "a100-sxm-80gb has no fp8"),
        (
            changed(dtype="fp12"), "unknown dtype",
            "unknown dtype 'fp12' (known: fp32, tf32, fp16, bf16, int8, fp8, int32, int64, bool, fp64)",
        ),
        (changed(k=""), "extent missing", "'k' is empty or not positive"),
        (changed(m=0), "extent missing", "'m' is empty or not positive"),
        (
            changed(latency_us=300), "above the peak FLOP/s",
            "458.1 TFLOP/s is above the 311.9 TFLOP/s that a100-sxm-80gb can do",
        ),
        (
            changed(device="A100", latency_us=300), "above the peak FLOP/s",
            "458.1 TFLOP/s is above the 311.9 TFLOP/s that a100-sxm-80gb or a100-sxm-40gb or a100-pcie-80gb or a100-pcie-40gb"
            " can do",
        ),
        (
            changed(m=16, n=65536, k=16384, latency_us=500), "above the peak bandwidth",
            "4216 GB/s from memory is above the 2039 GB/s of a100-sxm-80gb",
        ),
        (changed(), "duplicate", "the same as line 2"),
    ],
)  # fmt: skip
def test_a_bad_row_is_left_out_and_told(tmp_path: Path, row: str, why: str, message: str) -> None:
    path = write(tmp_path, changed(), row)
    found = read(path)
    assert found.problems == (
        f"{path}:3: {message}{'' if message.endswith('?') else ';'} the row was not used: fix or delete it",
    )
    assert dict(found.provenance[0].dropped) == {why: 1}
    assert (found.provenance[0].rows, found.provenance[0].used, len(found.frame)) == (2, 1, 1)
    assert found.frame.line.tolist() == [2]


def test_an_outlier_among_rows_of_one_shape(tmp_path: Path) -> None:
    rows = [changed(latency_us=t, software=f"s{t}") for t in (590, 600, 610, 1600)]
    path = write(tmp_path, *rows)
    found = read(path)
    text = "latency is 2.64 times the median of the 4 rows of its shape"
    assert found.problems == (f"{path}:5: {text}; the row was not used: fix or delete it",)
    assert len(read(write(tmp_path, rows[0], rows[3], name="two.csv")).frame) == 2  # two rows have no median to trust


def test_rows_that_were_not_measured_are_counted_and_not_told(tmp_path: Path) -> None:
    path = write(tmp_path, f"{changed()},ok", f"{changed(latency_us='')},oom", head=f"{HEAD},status")
    found = read(path)
    assert found.problems == ()
    assert dict(found.provenance[0].dropped) == {"not measured (oom)": 1}


def test_rows_of_a_cpu_come_back_alone(tmp_path: Path) -> None:
    path = write(tmp_path, changed(), changed(device="cpu:some"))
    assert read(path).frame.device_id.tolist() == ["a100-sxm-80gb"]
    assert read(path, cpu=True).frame.device_id.tolist() == ["cpu:some"]


@pytest.mark.parametrize(
    ("head", "rows", "message"),
    [
        (HEAD.replace("latency_us", "latency_ms"), [GOOD],
         ":1: column 'latency_us' is missing ('latency_ms' is there: give microseconds);"
         " a table has op, device, dtype, latency_us"),
        (HEAD.replace("op", "name"), [GOOD], ":1: column 'op' is missing; a table has op, device, dtype, latency_us"),
        (HEAD.replace(",k,", ",depth,"), [GOOD], ":1: column 'k' is missing; gemm rows need batch, m, n, k"),
        (HEAD, [], ": the table has no rows"),
        (HEAD, [changed(latency_us=round(0.3 + i / 1e3, 3)) for i in range(30)],
         ": latency_us: 100 % of the rows would be faster than their device can be; give microseconds"),
        ("", [], ": not a table: No columns to parse from file"),
    ],
)  # fmt: skip
def test_a_file_that_is_refused(tmp_path: Path, head: str, rows: list[str], message: str) -> None:
    path = write(tmp_path, *rows, head=head)
    with pytest.raises(CalibrationError) as caught:
        read(path)
    assert caught.value.problems == (f"{path}{message}",)


def test_every_refused_file_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "b.csv.gz"
    damaged.write_bytes(gzip.compress(b"op,device\n")[:-9])
    with pytest.raises(CalibrationError) as caught:
        read([tmp_path / "none.csv", damaged, write(tmp_path, GOOD)])
    first, second = caught.value.problems
    assert first == f"{tmp_path}/none.csv: no such file"
    assert second.startswith(f"{damaged}: not a table: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"op,device\n\xff\xfe", "no UTF-8 text; a table is CSV or Parquet (.parquet)"),
        (b'op,device\n"x,y\n', "EOF inside string starting at row 1"),
        (b"op,device\n1,2,3\n4,5,6,7\n", "Expected 3 fields in line 3, saw 4"),
    ],
)
def test_a_file_that_is_no_table_is_told_without_the_reader_s_own_words(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    with pytest.raises(CalibrationError) as caught:
        read(path)
    assert caught.value.problems == (f"{path}: not a table: {message}",)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    def missing(_: Path) -> None:
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(CalibrationError) as caught:
        read(tmp_path / "a.parquet")
    text = "reading Parquet needs pyarrow: install it, or write the table as CSV"
    assert caught.value.problems == (f"{tmp_path}/a.parquet: {text}",)


def test_parquet_and_csv_gz_are_read(tmp_path: Path) -> None:
    import pandas as pd

    pytest.importorskip("pyarrow")
    frame = pd.read_csv(write(tmp_path, GOOD))
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv.gz", index=False)
    found = read([tmp_path / "a.parquet", tmp_path / "a.csv.gz"])
    assert found.frame.flops.tolist() == [2 * 4096**3] * 2
    assert [p.used for p in found.provenance] == [1, 1]


def test_algorithms_that_execute_fewer_flops_may_exceed_the_peak(tmp_path: Path) -> None:
    head = "device,op,dtype,batch,in_channels,out_channels,height,width,kernel,stride,padding,latency_us,algorithm"
    cells = "A100-PCIe-80GB,conv2d,fp32,8,512,512,64,64,3,1,1"  # 154.6 GFLOP; the fp32 peak is 19.5 TFLOP/s
    path = write(tmp_path, f"{cells},4000,winograd", f"{cells},4010,implicit_gemm", head=head)
    found = read(path)
    assert found.frame.algorithm.tolist() == ["winograd"]
    assert found.frame.flops.tolist() == [2 * 8 * 512 * 512 * 9 * 64 * 64]
    assert found.problems[0].startswith(
        f"{path}:3: 38.56 TFLOP/s is above the 19.49 TFLOP/s that a100-pcie-80gb can do"
    )


def test_what_fits_the_l2_may_exceed_the_memory(tmp_path: Path) -> None:
    head = "device,op,dtype,rows,cols,latency_us,condition"
    cells = "A100-SXM4-80GB,softmax,fp16,4096,2048"  # 16.8 MB in, 16.8 MB out; the L2 holds 41.9 MB
    path = write(tmp_path, f"{cells},6,warm", f"{cells},6.1,cold", head=head)
    assert read(path).frame.condition.tolist() == ["warm"]


def test_public_schemas(tmp_path: Path) -> None:
    attention = "device,op,dtype,batch,q_len,kv_len,heads,kv_heads,head_dim,causal,latency_us,implementation,timing"
    path = write(tmp_path, "L40S,prefill,bf16,1,1024,1024,8,2,128,1,100,fa,kernel", head=attention)
    one = read(path).frame.iloc[0]
    assert one.flops == 4 * 8 * 1024 * 1024 * 128 * (1 + 1 / 1024) / 2
    assert one.read_bytes == 2 * 1024 * 128 * (8 + 2 * 2)
    published = "model,component,precision,device,latency_ms,it_per_s,steps"
    path = write(
        tmp_path, "SD 1.5,end_to_end,fp16 (not stated),A100-40GB,1500,,50", "SD 1.5,loop,fp32,T4,,4,50", head=published
    )
    found = read(path).frame
    assert found.latency_us.tolist() == [1.5e6, 2.5e5]
    assert found.dtype.tolist() == ["fp16", "fp32"]
    assert found.device_id.tolist() == ["a100-sxm-40gb|a100-pcie-40gb", "t4"]
    assert set(found.family) == {"end_to_end"}


def test_gemm_in_two_hundred_thousand_rows_takes_seconds(tmp_path: Path) -> None:
    import pandas as pd

    count = 200_000
    rng = np.random.default_rng(0)
    m, n, k = (rng.integers(1, 8192, count) for _ in range(3))
    frame = pd.DataFrame(
        {"device": "A100-SXM4-80GB", "op": "linear", "dtype": "bf16", "batch": 1, "m": m, "n": n, "k": k}
    )
    frame["latency_us"] = 5 + 2.0 * m * n * k / 200e6 + 2.0 * (m * k + n * k + m * n) / 1.2e6
    frame.to_csv(tmp_path / "big.csv", index=False)
    begun = time.process_time()
    assert read(tmp_path / "big.csv").provenance[0].used == count
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("A100-SXM4-80GB", ("a100-sxm-80gb",)), ("NVIDIA A100-SXM4-40GB", ("a100-sxm-40gb",)),
        ("NVIDIA A100 80GB PCIe", ("a100-pcie-80gb",)), ("A100-PCIE-40GB", ("a100-pcie-40gb",)),
        ("A100-80GB", ("a100-sxm-80gb", "a100-pcie-80gb")), ("A100 (NVLink)", ("a100-sxm-80gb", "a100-sxm-40gb")),
        ("NVIDIA H100 80GB HBM3", ("h100-sxm",)), ("H100 PCIe", ("h100-pcie",)), ("H100 NVL", ()), ("H100", ("h100-sxm",)),
        ("NVIDIA H200", ("h200",)),
        ("B200-SXM", ("b200",)), ("NVIDIA L40S", ("l40s",)), ("L4", ("l4",)), ("L40", ("l40",)),
        ("V100-PCIe-32GB", ("v100-pcie",)),
        ("Tesla V100-SXM2-16GB", ("v100-sxm2",)), ("Tesla T4", ("t4",)), ("P100-PCIe-16GB", ("p100-pcie",)), ("A10", ("a10",)),
        ("A10G", ("a10g",)),
        ("RTX-A6000", ("rtx-a6000",)), ("RTX-3090-Ti", ("rtx-3090-ti",)), ("RTX 3090", ("rtx-3090",)), ("H20", ("h20",)),
        ("NVIDIA GeForce RTX 4090", ("rtx-4090",)), ("L20", ("l20",)), ("H800-NVL-80GB", ()),
        ("RTX 4090 D", ()), ("NVIDIA GeForce RTX 4090 Laptop GPU", ()), ("H20-3e", ()), ("NVIDIA H20 141GB", ()),
        ("NVIDIA H20 96GB", ("h20",)), ("V100-SXM3-32GB", ()), ("RTX A6000 Ada", ()),
        ("RTX 6000 Ada Generation", ("rtx-6000-ada",)),
    ],
)  # fmt: skip
def test_device_names(name: str, ids: tuple[str, ...]) -> None:
    assert device_ids(name) == ids


@pytest.mark.parametrize("name", [n for n in device_names() if not n.startswith("imaginary")])
def test_every_device_of_ours_has_a_name_in_tables(name: str) -> None:
    assert name in device_ids(name.replace("-", " ").upper())
    assert peaks(name).flops["fp32"] > 0
    assert peaks(name).bandwidth > 0


@pytest.mark.parametrize("kind", ["conv", "gemm", "attention", "group_norm", "layer_norm", "softmax"])
def test_work_is_that_of_the_operator_kind(tmp_path: Path, kind: str) -> None:
    """FLOPs and bytes that a table's row has equal those of the operator kind (roofline: each tensor once), biases apart."""
    for example in kinds()[kind].examples:
        row = next(r for r in rows_of(kind, example, At("fp16")) if r.get("layout") != "nchw" or r["op"] == "conv1d")
        cells = {**row, "device": "A100-SXM4-80GB", "latency_us": 1e9}
        found = read(write(tmp_path, ",".join(map(str, cells.values())), head=",".join(cells))).frame.iloc[0]
        causal = 0.5 * (1 + 1 / example["q_len"]) if kind == "attention" and example["causal"] else 1.0
        assert found.flops == pytest.approx(causal * float(build.trace([(kind, example)]).op_flops()[0]))
        if kind in ("gemm", "softmax", "layer_norm"):
            moved = float(cost(build.kernels([(kind, example)]), build.a100(), "roofline").hbm_bytes.sum())
            assert found.read_bytes + found.write_bytes == pytest.approx(moved, rel=0.02)


def test_every_family_says_what_it_needs() -> None:
    assert set(FAMILIES) <= set(NEEDS)


def test_rows_of_an_unknown_device_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    row = "H800,sglang,linear,bf16,1,{},32,32,nk,2.5,kernel"
    head = "device,software,op,dtype,batch,m,n,k,b_layout,latency_us,timing"
    path.write_text("\n".join([head, *(row.format(m) for m in range(1, 4))]), encoding="utf-8")
    (line,) = read([path]).problems
    assert line == f"{path}:2: unknown device 'H800'; did you mean 'h200'? 3 rows like it were not used"
    assert list(predicted_table(path, None, "physical")[1]) == [
        f"{path}:2: no hardware file for device 'H800' (and 2 more rows)"
    ]


def test_predict_tells_which_device_a_name_that_stands_for_several_means(tmp_path: Path) -> None:
    path = tmp_path / "shapes.csv"
    path.write_text("op,dtype,batch,m,n,k\nlinear,bf16,1,64,64,64\n", encoding="utf-8")
    (line,) = predicted_table(path, "NVIDIA A100-80GB", "physical")[1]
    both = "a100-sxm-80gb or a100-pcie-80gb"
    assert line == (
        f"--hardware: 'NVIDIA A100-80GB' may be {both}; rows that name none of them are priced on a100-sxm-80gb"
    )
    for name in ("a100-pcie-80gb", "NVIDIA A100-SXM4-80GB", "H100", "NVIDIA A100 80 GB PCIe", "NVIDIA H100 80GB HBM3"):
        assert predicted_table(path, name, "physical")[1] == []


def test_predict_without_a_device_or_a_row_that_can_be_priced(tmp_path: Path) -> None:
    path = tmp_path / "shapes.csv"
    path.write_text("op,dtype,batch,m,n,k\nlinear,fp17,1,64,64,64\n", encoding="utf-8")
    with pytest.raises(CalibrationError) as caught:
        predicted_table(path, None, "physical")
    missing = f"{path}:1: column 'device' is missing; say on what to price the rows: --hardware NAME"
    assert caught.value.problems == (missing,)
    done = CliRunner().invoke(framecast.commands(), ["predict", str(path), "--hardware", "l40s"])
    assert isinstance(done.exception, CalibrationError)
    assert done.exception.problems == (f"{path}: no row could be priced",)
    assert done.stderr.startswith(f"{path}:2: unknown dtype 'fp17'")
    assert done.stdout.startswith("op,dtype,batch,m,n,k,predicted_us")


def test_predict_tells_a_dtype_that_there_is_not_and_an_extent_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "shapes.csv"
    rows = ["op,dtype,device,batch,m,n,k", "linear,bf17,a100-sxm-80gb,1,64,64,64", "linear,bf16,a100-sxm-80gb,1,64,64,"]
    rows += [f"linear,{dtype},a100-sxm-80gb,1,64,64,64" for dtype in ("bf16", "int64")]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    frame, why = predicted_table(path, None, "physical")
    assert why == [
        f"{path}:3: 'k' is empty or not positive",
        f"{path}:2: unknown dtype 'bf17'; did you mean 'bf16'? (known: {', '.join(DTYPES)})",
        f"{path}:5: the device lacks this dtype",
    ]
    assert frame["predicted_us"].isna().tolist() == [True, True, False, True]
