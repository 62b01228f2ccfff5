"""What happens in a deployment, for who runs it: metrics, health and readiness over HTTP."""

from __future__ import annotations

from propeller_fl.observe._app import observe_app
from propeller_fl.observe._facts import (
    AggregationBegun,
    Fact,
    ModelStored,
    ModuleRan,
    RoundEnded,
    RoundOpened,
    RoundRefused,
    TaskEnded,
    TaskSent,
    UpdateRefused,
    UpdatesAccepted,
    Watcher,
    nobody,
)
from propeller_fl.observe._metrics import Metrics
from propeller_fl.observe._readiness import Readiness, unwritable
from propeller_fl.observe._server import metrics_server
from propeller_fl.observe._watch import Watch, open_traces

__all__ = [
    "AggregationBegun",
    "Fact",
    "Metrics",
    "ModelStored",
    "ModuleRan",
    "Readiness",
    "RoundEnded",
    "RoundOpened",
    "RoundRefused",
    "TaskEnded",
    "TaskSent",
    "UpdateRefused",
    "UpdatesAccepted",
    "Watch",
    "Watcher",
    "metrics_server",
    "nobody",
    "observe_app",
    "open_traces",
    "unwritable",
]
