"""Runs of the built image: `tests/image/run.sh` builds it and says in the environment where it is."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE = os.environ.get("FMCIB_IMAGE", "")
BASE = os.environ.get("FMCIB_BASE", "")
BUILDAH = os.environ.get("FMCIB_BUILDAH", "buildah").split()


@dataclass(frozen=True)
class Container:
    """A container of the image.

    Attributes:
        name: As buildah knows it.
        entrypoint: What runs first, with the image's own arguments left out.
        default: The image's own arguments.
        user: Who runs it.
        labels: Of the image.
        root: Where its files are mounted on this machine.
    """

    name: str
    entrypoint: list[str]
    default: list[str]
    user: str
    labels: dict[str, str]
    root: Path

    def run(
        self,
        *arguments: str,
        source: Path | None = None,
        output: Path | None = None,
        user: str | None = None,
        program: Sequence[str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the image with no network at all, as an engine would: its entrypoint, then `arguments` or its own.

        Args:
            arguments: In place of the image's.
            source: Mounted read-only where MHub users mount the input.
            output: Mounted where they mount the output.
            user: UID:GID in place of the image's.
            program: In place of the entrypoint.
        """
        mounts = [f"{source}:/app/data/input_data:ro"] if source else []
        mounts += [f"{output}:/app/data/output_data"] if output else []
        command = [*(program or self.entrypoint), *(arguments or (() if program else self.default))]
        options = [word for mount in mounts for word in ("-v", mount)]
        return subprocess.run(
            [*_NO_NETWORK, *BUILDAH, "run", "--user", user or self.user, *options, self.name, "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def run_locked(self, *command: str, source: Path, output: Path) -> subprocess.CompletedProcess[str]:
        """Run a command as `docker run --read-only --cap-drop ALL --security-opt no-new-privileges` does.

        Not by buildah, whose chroots keep the root writable, but by the kernel's own means: namespaces, a read-only
        bind mount, an empty bounding set.
        """
        return subprocess.run(
            [
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "sh",
                "-euc",
                _LOCK,
                "lock",
                *map(str, (self.root, source, output, self.user.partition(":")[0])),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


_NO_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "no-network"]
"""As `docker run --network none`: nothing but the loopback, over which Ray's processes speak."""

_LOCK = """
root=$1 source=$2 output=$3 user=$4
shift 4
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/app/data"
mkdir "$root/app/data/input_data" "$root/app/data/output_data"
mount --bind "$source" "$root/app/data/input_data"
mount -o remount,bind,ro "$root/app/data/input_data"
mount --bind "$output" "$root/app/data/output_data"
cd /
exec chroot "$root" env -i PATH=/opt/fmcib/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 \
    FMCIB_CACHE=/app/cache HOME=/tmp LOGNAME=fmcib \
    setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs "$@"
"""
"""$0 ROOT INPUT OUTPUT USER COMMAND..."""


@contextmanager
def start(image: str) -> Iterator[Container]:
    """A container that is removed in the end."""
    name = _buildah("from", image)
    try:
        config: dict[str, Any] = json.loads(_buildah("inspect", name))["Docker"]["config"]
        yield Container(
            name=name,
            entrypoint=config["Entrypoint"] or [],
            default=config["Cmd"] or [],
            user=config["User"],
            labels=config["Labels"] or {},
            root=Path(_buildah("mount", name)),
        )
    finally:
        _buildah("rm", name)


def _buildah(*arguments: str) -> str:
    return subprocess.run([*BUILDAH, *arguments], capture_output=True, text=True, check=True).stdout.strip()
