"""A root that may no more than others, where tests run as root: files' permissions count for it."""

from __future__ import annotations

import ctypes
import sys

_PR_CAPBSET_DROP = 24  # linux/prctl.h
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2  # linux/capability.h
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def obey_permissions() -> None:
    """From now on, for this process and all that it starts. Does nothing for others than root."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, capabilities = _Header(_VERSION_3, 0), (_Capabilities * 2)()
    libc.capget(ctypes.byref(header), capabilities)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        for names in ("effective", "permitted", "inheritable"):
            bits = getattr(capabilities[0], names)
            setattr(capabilities[0], names, bits & ~(1 << capability))
    libc.capset(ctypes.byref(header), capabilities)
