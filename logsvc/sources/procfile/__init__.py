"""Runs the processes of a Procfile and plays the kubelet for them: their output goes to CRI files in pod folders.

    settings = RunnerSettings(pods=data / "pods", identities=data / "identity", tenant="default", app="demo")
    runner = ProcfileRunner.of_file(Path("Procfile"), settings, on_event=print)
    await runner.run()  # until somebody calls runner.stop()

parse.py reads the Procfile, formation.py says what a run is, runner.py and dyno.py keep it running, shim.py sees to it
that nothing outlives it; pump.py, crilog.py and rotation.py write the files, identity.py says whose they are.
"""

from logsvc.sources.procfile.dyno import ProcessEvent, State
from logsvc.sources.procfile.formation import Dyno, RunnerSettings, parse_scale
from logsvc.sources.procfile.identity import ProcfileIdentity, prune
from logsvc.sources.procfile.runner import ProcfileRunner

__all__ = [
    "Dyno",
    "ProcessEvent",
    "ProcfileIdentity",
    "ProcfileRunner",
    "RunnerSettings",
    "State",
    "parse_scale",
    "prune",
]
