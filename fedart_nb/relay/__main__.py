"""`python -m fedart_nb.relay` and `fedart relay`: the relay as a process of its own.

    fedart relay --port 8765                                           this computer, or behind a proxy that has TLS
    fedart relay --host 0.0.0.0 --port 8765 --tls-self-signed          a workshop; hand out the address that it prints
    fedart relay --host :: --port 443 --tls-cert full.pem --tls-key key.pem --open-rooms-with secret.txt

Where others can reach it, the address printed ends in a secret: hosts need it to open rooms, artists do not.
As a JupyterHub service it needs no option: it listens where JUPYTERHUB_SERVICE_URL says, under
JUPYTERHUB_SERVICE_PREFIX. Behind the hub's proxy add `--trusted-proxies 1`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from urllib.parse import urlsplit

from fedart_nb._system.files import user_path
from fedart_nb._system.folders import data_folder
from fedart_nb.errors import RelayError
from fedart_nb.relay.limits import Limits, option_of
from fedart_nb.relay.server import run
from fedart_nb.relay.store import made_folder
from fedart_nb.relay.tls import Certificate

__all__ = ["main", "whole_number"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; returns the exit status (2: it cannot be done like this)."""
    try:
        options = _parser(os.environ).parse_args(arguments)
        made_folder(options.data)
        run(
            options.data,
            options.host,
            options.port,
            limits=Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)}),
            root_path=options.root_path,
            tls=_certificate(options),
            opening_secret=""
            if options.open_rooms_to_anybody
            else _secret("--open-rooms-with", options.open_rooms_with),
            metrics_token=_secret("--metrics-with", options.metrics_with),
            trusted_proxies=options.trusted_proxies,
            allow_public_without_tls=options.allow_public_without_tls,
        )
    except RelayError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A type of number for argparse: what is out of range is refused with the range, not taken as another number."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text.strip()) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r}; expected a whole number from {least} to {most}")
        return int(text)

    return read


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    host, port = _hub_address(environment)
    parser = argparse.ArgumentParser(
        prog="fedart relay",
        description="A blind mailbox for rooms of artists.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    default = data_folder() / "relay"
    add(
        "--data",
        type=user_path,
        default=default,
        metavar="DIR",
        help="folder of messages and blobs (%(default)s)",
    )
    add("--host", default=host, help="address to listen on (%(default)s)")
    add("--port", type=whole_number(0, 65535), default=port, help="port; 0 takes a free one (%(default)s)")
    prefix = environment.get("JUPYTERHUB_SERVICE_PREFIX", "")
    add("--root-path", default=prefix, metavar="PREFIX", help="prefix under which a proxy shows the relay")
    proxies = whole_number(0, 16)
    add("--trusted-proxies", type=proxies, default=0, metavar="N", help="own proxies whose X-Forwarded-For is true (0)")
    tls = parser.add_argument_group("encryption")
    tls.add_argument("--tls-cert", type=user_path, metavar="PEM", help="certificate, with those that vouch for it")
    tls.add_argument("--tls-key", type=user_path, metavar="PEM", help="its key, without a password")
    tls.add_argument("--tls-self-signed", action="store_true", help="make one; links then carry its fingerprint")
    tls.add_argument("--allow-public-without-tls", action="store_true", help="let others reach it unencrypted")
    secrets = parser.add_argument_group("secrets", "each the name of a file or of an environment variable")
    secrets.add_argument("--open-rooms-with", metavar="FILE|ENV", help="only who knows this secret opens rooms")
    secrets.add_argument("--open-rooms-to-anybody", action="store_true", help="make no secret for opening rooms")
    secrets.add_argument("--metrics-with", metavar="FILE|ENV", help="answer at /metrics, to who knows this token")
    limits = parser.add_argument_group("limits")
    for limit in fields(Limits):
        what = f"{limit.metadata['what']} (%(default)s)"
        limits.add_argument(
            option_of(limit.name), dest=limit.name, type=int, default=limit.default, metavar="N", help=what
        )
    return parser


def _hub_address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Host and port that JupyterHub wants its service to listen on; else loopback and a free port."""
    url = environment.get("JUPYTERHUB_SERVICE_URL", "")
    try:
        parts = urlsplit(url)
        port = parts.port or 0
    except ValueError as error:
        raise RelayError(
            f"JUPYTERHUB_SERVICE_URL is {url[:120]!r}; expected something like http://127.0.0.1:8765."
        ) from error
    return parts.hostname or "127.0.0.1", port


def _certificate(options: argparse.Namespace) -> Certificate | None:
    if options.tls_self_signed:
        if options.tls_cert or options.tls_key:
            raise RelayError("--tls-self-signed makes a certificate; leave --tls-cert and --tls-key out.")
        return Certificate.self_signed(options.data, options.host)
    if bool(options.tls_cert) != bool(options.tls_key):
        raise RelayError("--tls-cert and --tls-key belong together; give both.")
    return Certificate(options.tls_cert, options.tls_key) if options.tls_cert else None


def _secret(option: str, name: str | None) -> str | None:
    """The secret in a file or an environment variable; on the command line everybody on the machine could read it."""
    if name is None:
        return None
    file = user_path(name)
    try:
        secret = (file.read_text(encoding="utf-8") if file.is_file() else os.environ.get(name, "")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RelayError(f"{option} {name}: the file cannot be read ({error}).") from error
    if len(secret) < 8:
        raise RelayError(f"{option} {name}: expected a file or environment variable with 8 characters or more in it.")
    return secret


if __name__ == "__main__":
    sys.exit(main())
