"""The relay behind jupyter-server-proxy: at .../fedart-relay/ of a Jupyter server, started when somebody first asks.

That server's own access control stays in front. Its token opens the whole server, so never hand it out: this is for
servers that let artists in by other means, or for kernels on the same server.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["server"]


def server() -> dict[str, Any]:
    """What the entry point `jupyter_serverproxy_servers` asks for."""
    return {
        "command": [sys.executable, "-m", "fedart_nb.relay", "--port", "{port}"],
        "timeout": 30,
        "launcher_entry": {"enabled": False, "title": "fedart relay"},  # there is nothing to look at
    }
