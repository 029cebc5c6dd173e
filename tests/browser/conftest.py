"""A real JupyterLab, a real relay and a real Chromium, all on this computer, for tests that click like a person."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from fedart_nb.relay.process import relay_process

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHROMIUM = shutil.which(os.environ.get("CHROMIUM", "chromium")) or shutil.which("google-chrome")
NO_CHROMIUM = """\
The browser tests need Chromium and found none.
  Debian, Ubuntu: apt-get install chromium     Fedora: dnf install chromium     macOS: brew install --cask chromium
  or name one:    CHROMIUM=/path/to/chrome make test
  or leave them:  FEDART_NO_BROWSER=1 make test"""
SCREENS = ROOT / "out" / "screens"
PANEL = ".jp-Notebook .fedart-panel"
OUTPUT = ".jp-Notebook .jp-OutputArea-output"
ALL_CELLS_RAN = """() => {
    const cells = window.jupyterapp.shell.currentWidget.content.widgets
        .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim());
    return cells.every(cell => cell.model.executionState === 'idle' && cell.model.executionCount);
}"""
RUN_CELL = """text => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const index = notebook.widgets.findIndex(
        cell => cell.model.type === 'code' && cell.model.sharedModel.source.includes(text));
    if (index < 0) throw new Error(`no code cell contains ${text}`);
    notebook.activeCellIndex = index;
    window.jupyterapp.commands.execute('notebook:run-cell');
    return index;
}"""
CELL_RAN = """index => {
    const {model} = window.jupyterapp.shell.currentWidget.content.widgets[index];
    return model.executionState === 'idle' && model.executionCount;
}"""
CELL_ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code')
    .flatMap(cell => cell.model.outputs.toJSON())
    .filter(output => output.output_type === 'error')
    .map(output => `${output.ename}: ${output.evalue}`)"""
LAB_S = 60  # seconds within which JupyterLab answers or shows a notebook, on two busy cores
expect.set_options(timeout=20_000)  # five seconds, the default, are little for a kernel on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder; leave it out only when that was asked for in so many words."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.process)
            if os.environ.get("FEDART_NO_BROWSER") == "1":
                item.add_marker(pytest.mark.skip(reason="FEDART_NO_BROWSER=1"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say that Chromium is missing before the first test runs, not after the last."""
    wanted = any("browser" in item.keywords for item in session.items) and os.environ.get("FEDART_NO_BROWSER") != "1"
    if wanted and not CHROMIUM:
        raise pytest.UsageError(NO_CHROMIUM)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's Chromium, asking nobody for anything."""
    quiet = ["background-networking", "component-update", "gpu", "quic", "sync"]
    return browser_type_launch_args | {
        "executable_path": CHROMIUM,
        "args": ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)],
    }


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    return browser_context_args | {"viewport": {"width": 1280, "height": 1000}, "locale": "en-GB"}


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a relay in a process of its own."""
    with relay_process(tmp_path_factory.mktemp("relay")) as url:
        yield url


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab on a folder of its own; what a test does in it, in a person's words."""

    url: str
    token: str
    folder: Path

    def write(self, name: str, *cells: str) -> str:
        """Put a notebook with these code cells into the folder; returns its name."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self.folder / name)
        return name

    def copy(self, name: str, new: str) -> str:
        """Copy one of the notebooks, so that two people have one each; returns the copy's name."""
        shutil.copy(self.folder / name, self.folder / new)
        return new

    def open_notebook(self, page: Page, name: str) -> None:
        """Open a notebook in a workspace of its own, in the light theme, and wait until its kernel is idle."""
        workspace = secrets.token_hex(4)
        page.goto(f"{self.url}/lab/workspaces/{workspace}/tree/{name}?reset&token={self.token}")
        expect(page.locator(".jp-Notebook")).to_be_visible(timeout=LAB_S * 1000)
        expect(page.locator("#jupyterlab-splash")).to_have_count(0, timeout=LAB_S * 1000)
        self.theme(page, "Light")
        self.wait_for_kernel(page)

    def wait_for_kernel(self, page: Page) -> None:
        """Wait until the kernel of the notebook in front has started and has nothing to do."""
        idle = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        page.wait_for_function(idle, timeout=LAB_S * 1000)

    def run_all(self, page: Page, *, timeout_s: float = LAB_S) -> None:
        """Run every cell of the notebook in front and wait until the last one is done (0 s: do not wait)."""
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        if timeout_s:
            page.wait_for_function(ALL_CELLS_RAN, timeout=timeout_s * 1000)

    def run_cell(self, page: Page, text: str, *, timeout_s: float = LAB_S) -> None:
        """Run the first code cell that contains `text` and wait until it is done (0 s: do not wait)."""
        index = page.evaluate(RUN_CELL, text)
        if timeout_s:
            page.wait_for_function(CELL_RAN, arg=index, timeout=timeout_s * 1000)
            assert page.evaluate(CELL_ERRORS) == []

    def panel(self, page: Page, title: str) -> Locator:
        """The panel with this heading in the notebook in front."""
        heading = page.get_by_role("heading", name=title, level=3, exact=True)
        return page.locator(PANEL).filter(has=heading)

    def save_and_reload(self, page: Page) -> None:
        """Save as a person does, reload the page, and wait for the same kernel."""
        page.keyboard.press("Control+s")
        page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
        page.reload()
        expect(page.locator(".jp-Notebook")).to_be_visible(timeout=LAB_S * 1000)
        expect(page.locator("#jupyterlab-splash")).to_have_count(0, timeout=LAB_S * 1000)
        self.wait_for_kernel(page)

    def output(self, page: Page) -> Locator:
        """What the cells of the notebook in front have shown; JupyterLab's own buttons lie outside it."""
        return page.locator(OUTPUT)

    def wait_for_text(self, page: Page, text: str, *, timeout_s: float = 30) -> None:
        """Wait until `text` can be read in an output of the notebook in front."""
        expect(self.output(page).filter(has_text=text).first).to_be_visible(timeout=timeout_s * 1000)

    def screenshot(self, page: Page, name: str) -> Path:
        """Keep the page as `out/screens/<name>.png`, to be looked at by a person."""
        path = SCREENS / f"{name}.png"
        page.screenshot(path=path)
        return path

    def look(self, page: Page, name: str, panel: Locator) -> list[str]:
        """Keep a panel as `out/screens/<name>-light.png` and `-dark.png`; returns axe's findings inside all panels."""
        box = panel.bounding_box()
        size = page.viewport_size
        assert box
        assert size
        page.set_viewport_size({"width": size["width"], "height": max(size["height"], int(box["height"]) + 300)})
        found = []
        for theme in ("Dark", "Light"):
            self.theme(page, theme)
            panel.screenshot(path=SCREENS / f"{name}-{theme.lower()}.png", animations="disabled")
            found += [f"{theme}: {line}" for line in self.axe(page, PANEL)]
        page.set_viewport_size(size)
        return found

    def dark_theme(self, page: Page) -> None:
        """Switch JupyterLab to its dark theme."""
        self.theme(page, "Dark")

    def theme(self, page: Page, name: str) -> None:
        """Switch JupyterLab to its "Light" or "Dark" theme."""
        change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
        page.evaluate(change, f"JupyterLab {name}")
        expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str(name == "Light").lower())
        expect(page.locator("#jupyterlab-splash")).to_have_count(0, timeout=LAB_S * 1000)

    def axe(self, page: Page, selector: str = OUTPUT) -> list[str]:
        """Serious and critical accessibility violations inside `selector`, one line each: rule, help, first element."""
        results = Axe().run(page, context=selector)
        return [
            f"{found['id']} ({found['impact']}): {found['help']}: {found['nodes'][0]['html'][:200]}"
            for found in results.response["violations"]
            if found["impact"] in ("serious", "critical")
        ]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, relay: str) -> Iterator[Lab]:
    """JupyterLab on a copy of `notebooks/`, with a person's home, settings and workspaces replaced by empty folders."""
    base = tmp_path_factory.mktemp("lab")
    folder = base / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder) if (ROOT / "notebooks").is_dir() else folder.mkdir()
    token, port = secrets.token_hex(16), _free_port()
    homes = ("HOME", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTER_CONFIG_DIR")
    homes += ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "FEDART_HOME")
    small = {"FEDART_FAST": "1", "FEDART_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment = os.environ | small | {"FEDART_RELAY": relay} | {name: str(base / name.lower()) for name in homes}
    for name in homes:
        Path(environment[name]).mkdir(mode=0o700)
    announcements = Path(environment["JUPYTER_CONFIG_DIR"]) / "labconfig" / "page_config.json"
    announcements.parent.mkdir()
    announcements.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"),
        *(f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True"),
    ]
    log = base / "lab.log"
    with log.open("wb") as sink, subprocess.Popen(command, env=environment, stdout=sink, stderr=sink) as process:
        try:
            _wait_for_server(process, f"http://127.0.0.1:{port}/api/status?token={token}", log)
            yield Lab(f"http://127.0.0.1:{port}", token, folder)
        finally:
            process.terminate()  # jupyter_server shuts its kernels down first


@pytest.fixture(autouse=True)
def _kernels_end_with_the_test(lab: Lab) -> Iterator[None]:
    """A kernel with torch keeps half a gigabyte: shut down what a test has started."""
    yield
    with httpx.Client(base_url=lab.url, headers={"Authorization": f"token {lab.token}"}, timeout=LAB_S) as client:
        for kernel in client.get("/api/kernels").json():
            client.delete(f"/api/kernels/{kernel['id']}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_server(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(LAB_S * 4):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            if process.poll() is not None:
                break
            try:
                process.wait(timeout=0.25)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")
