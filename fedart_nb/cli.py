"""The command `fedart`: thin fronts for the notebooks, the demo, the relay, and a look at this machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from fedart_nb import __version__
from fedart_nb._system import settings
from fedart_nb._system.files import user_path
from fedart_nb.errors import FedArtError
from fedart_nb.workshop import course

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PINNED_TORCH", "WORK_FOLDER", "check", "demo", "lab", "main", "relay"]

PINNED_TORCH = "2.13.0"  # the version in constraints.txt: every figure in the documentation was measured with it

WORK_FOLDER = "fedart-notebooks"

_LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"},
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
}

_EXAMPLES = """\
examples:
  fedart demo                  a whole workshop on this computer: relay, host, three artists, two rounds
  fedart lab                   the notebooks in JupyterLab, with a relay beside them
  fedart lab my-course         the same in another folder; what it lacks is copied, your changes stay
  fedart lab --no-browser      the same, and only print the address
  fedart relay --port 8765     a relay for a workshop; --host 0.0.0.0 --tls-self-signed lets other computers in
  fedart check                 what this machine offers, and where your pictures would be loaded
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; an expected failure is one sentence on stderr and status 1.

    Example: `main(["check"])`.
    """
    parser = argparse.ArgumentParser(
        prog="fedart",
        description="Teach one diffusion model together, from art that never leaves its artist's kernel.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fedart-nb {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lab_parser = commands.add_parser("lab", help="open the notebooks in JupyterLab", description="Open the notebooks.")
    lab_parser.add_argument(
        "folder",
        type=user_path,
        nargs="?",
        default=WORK_FOLDER,
        metavar="FOLDER",
        help=f"where you work (default: ./{WORK_FOLDER}); notebooks that it lacks are copied into it",
    )
    lab_parser.add_argument("--port", type=_port, default=8888, help="port of JupyterLab (the next free one is taken)")
    lab_parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    lab_parser.add_argument("--no-relay", action="store_true", help="start no relay")
    commands.add_parser("check", help="say what this machine offers", description="Say what this machine offers.")
    for name, line in (("demo", "run a whole workshop on this computer"), ("relay", "run the relay")):
        commands.add_parser(name, help=line, add_help=False)

    options, rest = parser.parse_known_args(argv)
    if rest and options.command in ("lab", "check"):
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        with _ended_by_signals():
            if options.command == "check":
                return check()
            if options.command == "lab":
                return lab(
                    options.folder,
                    port=options.port,
                    browser=not options.no_browser,
                    with_relay=not options.no_relay,
                )
            return demo(rest) if options.command == "demo" else relay(rest)
    except FedArtError as error:
        print(f"fedart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def demo(arguments: Sequence[str] = ()) -> int:
    """Run the demonstration: relay, host and artists in separate kernels."""
    from fedart_nb.workshop.demo import main as run

    return run(list(arguments))


def relay(arguments: Sequence[str] = ()) -> int:
    """Run the relay in a process of its own, as `python -m fedart_nb.relay` does, until it is interrupted."""
    with subprocess.Popen([sys.executable, "-m", "fedart_nb.relay", *arguments]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal has sent it to the relay as well: let it finish its writes
            process.terminate()
            return process.wait()
        finally:
            process.terminate()


def lab(folder: Path = Path(WORK_FOLDER), *, port: int = 8888, browser: bool = True, with_relay: bool = True) -> int:
    """Open JupyterLab on `folder`, on this computer only; kernels find the relay's address in `FEDART_RELAY`.

    Notebooks that the folder lacks are copied into it first; the page that opens says what each is for.

    Raises FedArtError when the folder cannot be written.
    """
    work = course.prepare(folder)
    print(f"Your notebooks are in {work.path}", flush=True)
    if work.changed:
        print(f"Kept as you left them: {', '.join(work.changed)}. Rename one to get a fresh copy.", flush=True)
    environment = os.environ | {"JUPYTER_CONFIG_PATH": _lab_config()}
    command = [
        *(sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
        *(f"--ServerApp.root_dir={work.path}", "--LabApp.extension_manager=readonly"),
        f"--LabApp.default_url=/lab/tree/{course.WELCOME}",
        *([] if browser else ["--no-browser"]),
        *(["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []),
    ]
    if not with_relay:
        return _foreground(command, environment)
    from fedart_nb._system.migration import move_old_files
    from fedart_nb.relay.process import relay_process

    if told := move_old_files():
        print(told, flush=True)

    with relay_process(settings.data_folder() / "relay") as url:
        print(f"The relay listens at {url}", flush=True)
        return _foreground(command, environment | {"FEDART_RELAY": url})


def check() -> int:
    """Print facts about this machine and this installation; 1 when something needed is missing, else 0."""
    import torch

    location, is_shared = settings.kernel_location()
    pinned = torch.__version__.split("+")[0] == PINNED_TORCH
    weights = _embedded_weights()
    rows = [
        ("fedart-nb", __version__),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("torch", f"{torch.__version__} ({'as pinned' if pinned else f'the pinned version is {PINNED_TORCH}'})"),
        ("torch build", _torch_build(torch.version.cuda, cuda_works=torch.cuda.is_available())),
        ("device", settings.device()),
        ("threads", str(settings.limit_threads())),
        ("kernel runs on", location),
        ("your own art", "stays at home: use the sample art here" if is_shared else "may be loaded: it stays here"),
        ("backbone", f"{weights / 1e6:.1f} MB embedded" if weights else "MISSING: install the package again"),
        ("data folder", f"{settings.data_folder()} (keys, sessions, receipts and ledgers)"),
        ("cache folder", str(settings.cache_folder())),
        ("licence", f"{_licence()} for the code; each picture's own in fedart_nb/art/samples"),
    ]
    for name, value in rows:
        print(f"{name:<16}{value}")
    for line in _sample_licences():
        print(f"{'':<16}{line}")
    return 0 if weights else 1


def _port(text: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit() or not 0 <= int(text[:10]) < 2**16:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}; expected a whole number from 0 to 65535")
    return int(text)


def _foreground(command: Sequence[str], environment: dict[str, str]) -> int:
    with subprocess.Popen(command, env=environment) as process:
        try:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:  # JupyterLab got it too, and asks whether it is meant
                    continue
        finally:
            process.terminate()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A closed terminal and a plain `kill` end the command as an error would: whatever it started is stopped too."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]  # nohup's wish stands
    before = {n: signal.signal(n, end) for n in ours if threading.current_thread() is threading.main_thread()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lab_config() -> str:
    """A search path for Jupyter's settings that puts ours (no news, no updates, pages shown read) behind the user's."""
    folder = settings.cache_folder() / "jupyter"
    target = folder / "labconfig" / "default_setting_overrides.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(_LAB_SETTINGS), encoding="utf-8")
    return os.pathsep.join(filter(None, [os.environ.get("JUPYTER_CONFIG_PATH"), str(folder)]))


def _torch_build(cuda: str | None, *, cuda_works: bool) -> str:
    """Which build of torch is installed; a CUDA build without a GPU costs gigabytes for nothing."""
    if cuda is None:
        return "CPU"
    if cuda_works:
        return f"CUDA {cuda}"
    return f"CUDA {cuda}, and no GPU is found here: the CPU build is some gigabytes smaller (README, Install)"


def _embedded_weights() -> int:
    """Bytes of the shipped backbone; 0 when it is not there."""
    folder = Path(str(resources.files("fedart_nb"))) / "diffusion" / "embedded"
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def _licence() -> str:
    return str(metadata.metadata("fedart-nb")["License-Expression"])


def _sample_licences() -> list[str]:
    from fedart_nb.art import ArtSet

    samples = ArtSet.samples().items()
    return [f"{name}: {info.licence}, {info.count} pictures by {info.artist}" for name, info in samples]
