"""What `guarded.py` asks of papermill's engines: here there is no kernel to talk to."""

from types import SimpleNamespace

NBClientEngine = object
papermill_engines = SimpleNamespace(register=lambda name, engine: None)
