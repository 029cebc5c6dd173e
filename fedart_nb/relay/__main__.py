"""`python -m fedart_nb.relay`: the relay as a process of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fedart_nb.errors import RelayError
from fedart_nb.relay.limits import Limits
from fedart_nb.relay.server import run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; returns the exit status (2: it cannot be done like this)."""
    parser = argparse.ArgumentParser(
        prog="python -m fedart_nb.relay", description="A blind mailbox for rooms of artists."
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="folder that holds messages and blobs; kept")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 (the default) takes a free one")
    parser.add_argument("--root-path", default="", metavar="PREFIX", help="prefix under which a proxy shows the relay")
    parser.add_argument(
        "--max-members", type=int, default=Limits().members, help="members a room (default %(default)s)"
    )
    parser.add_argument(
        "--max-blob-bytes", type=int, default=Limits().blob_bytes, help="largest attachment (default %(default)s)"
    )
    parser.add_argument(
        "--allow-public-without-tls",
        action="store_true",
        help="listen on a public address although nothing is encrypted",
    )
    options = parser.parse_args(arguments)
    try:
        run(
            options.data,
            options.host,
            options.port,
            limits=Limits(members=options.max_members, blob_bytes=options.max_blob_bytes),
            root_path=options.root_path,
            allow_public_without_tls=options.allow_public_without_tls,
        )
    except RelayError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
