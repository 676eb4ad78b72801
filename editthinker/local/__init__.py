"""The embedded stack: the whole product as real processes on this machine, for trying it and for tests.

`Stack` is the way in; `Service` and `Plan` say what runs, `leash` makes processes die with their parent.
"""

from editthinker.local.child import Restarts
from editthinker.local.errors import (
    DataDirBusy,
    PortBusy,
    RedisMissing,
    ServiceFailed,
    StackError,
    StackStopped,
)
from editthinker.local.home import default_home
from editthinker.local.service import Plan, Service
from editthinker.local.stack import Stack, embedded_plan
from editthinker.local.supervisor import Patience

__all__ = [
    "DataDirBusy",
    "Patience",
    "Plan",
    "PortBusy",
    "RedisMissing",
    "Restarts",
    "Service",
    "ServiceFailed",
    "Stack",
    "StackError",
    "StackStopped",
    "default_home",
    "embedded_plan",
]
