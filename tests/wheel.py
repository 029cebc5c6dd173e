"""The built wheel in an empty environment: `fedart check`, the demo, and JupyterLab with the notebooks in Chromium.

python tests/wheel.py [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which(os.environ.get("CHROMIUM", "chromium")) or shutil.which("google-chrome")
_START_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="work here, and leave it there")
    folder = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        run(Path(folder or temporary).resolve())


def run(folder: Path) -> None:
    """Build, install and try the wheel in `folder`, which is outside the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("fedart_nb-*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    constraints = ["-c", str(ROOT / "constraints.txt")]
    for wanted in ("torch", str(wheel)):  # torch first: the pinned build, not a larger one
        subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, wanted], check=True)
    fedart = folder / "venv" / "bin" / "fedart"
    environment = os.environ | {"FEDART_HOME": str(folder / "home")}
    environment.pop("PYTHONPATH", None)
    subprocess.run([fedart, "check"], cwd=folder, env=environment, check=True)
    lab(fedart, folder, environment)
    subprocess.run([fedart, "demo"], cwd=folder, env=environment | {"FEDART_FAST": "1"}, check=True)
    assert (folder / "out" / "demo.html").is_file()
    print("The wheel works.", flush=True)


def lab(fedart: Path, folder: Path, environment: dict[str, str]) -> None:
    """Open `fedart lab` in Chromium: the welcome page, and a notebook by its link."""
    log = folder / "lab.log"
    command = [fedart, "lab", "course", "--no-browser", "--port=0"]
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            address = _address(log, process)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(address)
                expect(page.get_by_role("heading", name="Welcome to fedart-nb")).to_be_visible(timeout=60_000)
                page.screenshot(path=folder / "welcome.png")
                page.get_by_role("link", name="1 Your first adapter").click()
                expect(page.locator(".jp-Notebook").first).to_be_visible(timeout=60_000)
                page.screenshot(path=folder / "notebook.png")
                browser.close()
        finally:
            process.terminate()
            process.wait(30)
    scripts = sorted(path.name for path in (folder / "course").glob("*.py"))
    assert not scripts, scripts


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+/lab\S*token=\w+", log.read_text()):
            return found[0]
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


if __name__ == "__main__":
    main()
