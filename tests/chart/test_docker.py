"""deploy/docker: lint, and that what the images copy, build and run exists."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import ROOT, containers, render

FILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
HADOLINT = Path(sys.executable).parent / "hadolint"


def lines(path: Path) -> list[str]:
    """Instructions, continuation lines joined."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_there_are_three():
    assert [p.name for p in FILES] == ["admin.Dockerfile", "apiserver.Dockerfile", "dirctl.Dockerfile"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_lint(path):
    done = subprocess.run([HADOLINT, "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lint_can_fail(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN apt-get install curl\n")
    assert subprocess.run([HADOLINT, str(bad)], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_sources_and_binary_exist(path):
    text = path.read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in lines(path):
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = line.split()[1:]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, f"{source} is kept out by .dockerignore"
    [package] = re.findall(r"cargo build --locked --release -p (\S+)", text)
    manifest = tomllib.loads((ROOT / "crates" / package / "Cargo.toml").read_text())
    assert manifest["package"]["name"] == package and (ROOT / "crates" / package / "src" / "main.rs").exists()
    assert f'ENTRYPOINT ["/usr/local/bin/{package}"]' in text


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_images_run_unprivileged_on_pinned_bases(path):
    instructions = lines(path)
    [user] = [line for line in instructions if line.startswith("USER ")]
    assert user == "USER 65532:65532"
    bases = [line.split()[1] for line in instructions if line.startswith("FROM ")]
    assert all(":" in base and not base.endswith(":latest") for base in bases), bases
    rust = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert bases[0].startswith(f"rust:{rust}-"), "the image is built with the workspace's rust-version"


def test_the_server_keeps_two_heaps():
    """Memory is quoted with it: the bench sets the same."""
    assert "ENV MALLOC_ARENA_MAX=2" in lines(ROOT / "deploy/docker/apiserver.Dockerfile")


def test_every_workspace_member_is_copied():
    """Cargo refuses a workspace with a member missing."""
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    for path in FILES:
        copied = {line.split()[1] for line in lines(path) if line.startswith("COPY ") and "--from" not in line}
        for member in members:
            assert any(member == c or member.startswith(f"{c}/") for c in copied), f"{path.name}: {member}"


def test_the_chart_runs_the_images_as_they_are():
    """No command in the chart: the entry points decide, the chart gives arguments."""
    for owner, _, container in containers(render(("production",))):
        assert "command" not in container and container["args"], owner
