"""The control API: HTTPS and JSON for operators, playbooks and the command line.

Reads answer from the replicator's own view of the mesh; every mutation is one call of a service in omnirelay.runtime.
"""

from omnirelay.api.app import create_app
from omnirelay.api.server import ControlServer, TlsFiles
from omnirelay.api.services import Services

__all__ = ["ControlServer", "Services", "TlsFiles", "create_app"]
