"""The ground: version, licence, pins, the command line, Binder and continuous integration."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import fedart_nb
from fedart_nb import cli
from fedart_nb.errors import RelayUnreachable
from fedart_nb.relay.process import relay_process

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPTS = ["binder/postBuild", "binder/start", ".ci/run"]


def test_the_installed_version_is_the_one_in_the_package() -> None:
    assert metadata.version("fedart-nb") == fedart_nb.__version__


def test_the_changelog_knows_this_version() -> None:
    assert fedart_nb.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_decisions_in_the_architecture_are_numbered_once_and_in_order() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    people = re.search(r"^(\d+)\. \*\*People, not ids", text, re.MULTILINE)
    assert people is not None
    assert f"decided by people ({people[1]})" in text
    assert f"has not confirmed ({people[1]})" in text


def test_the_licence_names_the_code_s_and_every_sample_picture_s() -> None:
    named = set(PROJECT["project"]["license"].split(" AND "))
    shown = set()
    for path in (ROOT / "fedart_nb/art/samples").glob("*/metadata.csv"):
        with path.open(newline="", encoding="utf-8") as handle:
            shown |= {row["license"] for row in csv.DictReader(handle)}
    assert named == {"MIT"} | shown
    for pattern in PROJECT["project"]["license-files"]:
        assert list(ROOT.glob(pattern)), pattern


def test_every_sample_artist_comes_with_a_licence_file() -> None:
    folders = [
        path for path in (ROOT / "fedart_nb/art/samples").iterdir() if path.is_dir() and path.name[0] not in "._"
    ]
    assert len(folders) == 10
    assert [folder.name for folder in folders if not (folder / "LICENSE.txt").is_file()] == []


def test_the_pinned_torch_is_named_alike_everywhere() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert f"torch=={cli.PINNED_TORCH}" in constraints


def test_ipykernel_seven_zero_is_excluded() -> None:
    assert "ipykernel>=6.29,!=7.0.*" in PROJECT["project"]["dependencies"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_executable_and_parses(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_binder_starts_the_command_that_it_is_given() -> None:
    assert (ROOT / "binder/start").read_text(encoding="utf-8").splitlines()[-1] == 'exec "$@"'
    answer = subprocess.run(
        [str(ROOT / "binder/start"), sys.executable, "-c", "import os; print(os.environ['FEDART_BINDER'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "1\n"


def test_binder_installs_this_package_after_the_pinned_torch() -> None:
    lines = (ROOT / "binder/requirements.txt").read_text(encoding="utf-8").split("\n")
    assert lines.index("-c ../constraints.txt") < lines.index("torch") < lines.index(".")


def test_binder_runs_a_python_that_the_package_supports() -> None:
    chosen = re.fullmatch(r"python-3\.(\d+)\n", (ROOT / "binder/runtime.txt").read_text(encoding="utf-8"))
    lowest = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"])
    assert chosen
    assert lowest
    assert int(chosen[1]) >= int(lowest[1])


def test_every_target_of_the_makefile_is_explained() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets
    for target in targets[1].split():
        assert re.search(rf"^{target}:.*## \w", text, re.MULTILINE), target


def test_help_shows_every_command_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    for command in ("demo", "lab", "relay", "check"):
        assert text.count(f"fedart {command}") >= 1


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["check", "--fast"])
    assert end.value.code == 2
    assert "unknown: --fast" in capsys.readouterr().err


def test_lab_says_when_its_folder_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert cli.main(["lab", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_every_notebook_is_in_the_wheel() -> None:
    inside = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    names = {path.name for path in (ROOT / "notebooks").iterdir() if path.suffix in {".ipynb", ".md"}}
    assert inside == {f"notebooks/{name}": f"fedart_nb/notebooks/{name}" for name in names}


def test_check_prints_the_facts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDART_BINDER", "1")
    status = cli.main(["check"])
    text = capsys.readouterr().out
    assert status == 0, text
    for fact in (
        "torch",
        "as pinned",
        "device",
        "threads",
        "Binder",
        "use the sample art",
        "MIT",
        "openmoji: CC-BY-SA-4.0",
    ):
        assert fact in text


@pytest.mark.process
def test_a_relay_process_listens_on_loopback_and_ends_with_its_block(tmp_path: Path) -> None:
    with relay_process(tmp_path / "relay") as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/?", url)
    assert list((tmp_path / "relay").iterdir())


@pytest.mark.process
def test_a_relay_that_cannot_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RelayUnreachable, match="before it listened"), relay_process(tmp_path):
        pytest.fail("there is no relay")
