"""Which errors are the device's and which the edit's; synchronisation with the right GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from services.editor.pipelines.base import OutOfMemoryError, PipelineBrokenError
from services.editor.pipelines.diffusion.device import Device, as_pipeline_error


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", OutOfMemoryError),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OutOfMemoryError),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", OutOfMemoryError),
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory", OutOfMemoryError),
        ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. You may have passed in a non-contiguous input.", None),
        ("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmulAlgoGetHeuristic`", None),
        ("CUDA error: device-side assert triggered", PipelineBrokenError),
        ("CUDA error: an illegal memory access was encountered", PipelineBrokenError),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", PipelineBrokenError),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", PipelineBrokenError),
        ("The size of tensor a (3) must match the size of tensor b (4)", None),
    ],
)
def test_only_errors_that_make_the_device_unusable_are_fatal(text: str, kind: type | None) -> None:
    fault = as_pipeline_error(RuntimeError(text))
    assert (None if fault is None else type(fault)) == kind


def test_an_error_of_another_type_is_the_edit_s() -> None:
    assert as_pipeline_error(ValueError("CUDA error: out of memory")) is None
    assert isinstance(as_pipeline_error(torch.OutOfMemoryError("CUDA out of memory")), OutOfMemoryError)


def test_the_second_gpu_waits_for_its_own_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the first one's; and the thread makes it its default device once."""
    recorded: list[Any] = []
    chosen: list[Any] = []

    class Event:
        def record(self, stream: Any = "the first GPU's") -> None:
            recorded.append(stream)

        def synchronize(self) -> None:
            recorded.append("waited")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    device = Device("cuda:1")
    device.adopt()
    device.limit_lag()
    device.limit_lag()
    assert recorded == ["stream of cuda:1", "waited", "stream of cuda:1"]
    assert chosen == [torch.device("cuda:1")]
    Device("cuda").adopt()
    Device("cpu").adopt()
    assert len(chosen) == 1
