"""The wheel and the Debian package: built from the project, installed, and a message goes through them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.processes import end, free_port, run

ROOT = Path(__file__).resolve().parents[2]
IGNORED = shutil.ignore_patterns(".venv", ".git", "*cache*", "*.egg-info", "build", "dist")
CHECK = """
set -eu
ekiden --version
ekiden install {home} {options}
ekiden --home {home} config mail.example --listen 127.0.0.1:{port}
printf './Root\\n' >{home}/alias/.qmail-root
ekiden --home {home} start
printf 'To: root\\n\\nby the package\\n' | {home}/bin/qmail-inject
for try in $(seq 120); do
    if grep -q 'by the package' {home}/alias/Root 2>/dev/null; then break; fi
    sleep 0.5
done
ekiden --home {home} stop
grep -q 'by the package' {home}/alias/Root
{home}/bin/instcheck
ls {home}/man/man8/qmail-send.8 {home}/doc/qmail-send.md {home}/boot/home
"""

pytestmark = pytest.mark.slow


def check(home: Path, options: str = "") -> str:
    return CHECK.format(home=home, options=options, port=free_port())


def test_a_wheel_in_a_new_environment(place: Path) -> None:
    """Installed and run by somebody who is not root, in a home of their own."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = place / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=IGNORED)
    run([*pip, "wheel", "--no-deps", "--wheel-dir", place, source], 120)
    (wheel,) = place.glob("*.whl")
    run(["/usr/bin/python3", "-m", "venv", "--without-pip", place / "env"])
    (packages,) = (place / "env" / "lib").glob("python3*/site-packages")
    minor = packages.parent.name.removeprefix("python")
    run([*pip, "install", "--python-version", minor, "--only-binary=:all:", "--target", packages, wheel], 120)
    command = place / "env" / "bin" / "ekiden"
    command.write_text(f"#!{place}/env/bin/python3\nimport sys\nfrom ekiden.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    (place / "own").mkdir()
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    if become:
        os.chown(place / "own", 65534, 65534)
    environment = {"PATH": f"{place}/env/bin:/usr/bin:/bin", "HOME": str(place)}
    argv = [*become, "sh", "-c", check(place / "own" / "home")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr


SYSTEM = """
set -e
mkdir upper
mount -t tmpfs upper upper
for directory in usr var etc lib; do
    if [ -h /$directory ]; then continue; fi
    mkdir -p upper/$directory upper/.$directory
    mount -t overlay overlay -o lowerdir=/$directory,upperdir=upper/$directory,workdir=upper/.$directory /$directory
done
echo ready
exec sleep 600
"""


@pytest.fixture
def system(place: Path) -> Iterator[list[str]]:
    """How to run a program in this system, whose changes are forgotten in the end."""
    if os.getuid() != 0:
        pytest.skip("installing a Debian package needs root")
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", SYSTEM], cwd=place, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    yield ["nsenter", "--mount", f"--target={holder.pid}"]
    end(holder)
    holder.stdout.close()


def test_the_debian_package(place: Path, system: list[str]) -> None:
    """Built, installed by dpkg, laid out for qmail's users, run as root, and purged."""
    source = place / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=IGNORED)
    built = subprocess.run(
        ["sh", source / "packaging" / "build-deb"],
        env={**os.environ, "PIP": str(Path(sys.executable).parent / "pip")},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    package = source / built.stdout.split()[-1]
    run([*system, "dpkg", "--install", package], 120)
    listed = run([*system, "dpkg", "--listfiles", "ekiden"]).stdout.splitlines()
    assert {"/usr/bin/ekiden", "/usr/share/man/man8/ekiden.8.gz", "/lib/systemd/system/ekiden.service"} <= set(listed)
    done = subprocess.run(
        [*system, "sh", "-c", check(place / "qmail", "--create-users")], capture_output=True, text=True, cwd=place
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run([*system, "dpkg", "--purge", "ekiden"])
    assert run([*system, "find", "/usr/lib/ekiden", "-type", "f"], check=False).stdout.count(".py\n") == 0
