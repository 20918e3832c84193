"""Data go through S3 and SSH servers on loopback and arrive as they were."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from socket import socket
from threading import Thread
from typing import Any

import pytest
from ruamel.yaml import YAML

from petct_uad.core.provenance.record import Activity, Derivation, Entity, write_lineage
from petct_uad.lineage.verify import verify

ROOT = Path(__file__).parents[3]
BUCKET, KEY = "studies", "store"


@dataclass(frozen=True)
class Remote:
    """What DVC is told of a server, and how an object there is overwritten by another hand."""

    url: str
    options: dict[str, str]
    overwrite: Callable[[str, bytes], None]


@contextmanager
def s3_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    pytest.importorskip("dvc_s3", reason="pip install '.[remotes]'")
    moto = pytest.importorskip("moto.server", reason="pip install '.[dev]'")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)

        def overwrite(name: str, content: bytes) -> None:
            client.put_object(Bucket=BUCKET, Key=f"{KEY}/{name}", Body=content)

        yield Remote(f"s3://{BUCKET}/{KEY}", {"endpointurl": address}, overwrite)
    finally:
        server.stop()


def ssh_remote(user: str, port: int, folder: Path) -> Remote:
    place = folder / KEY

    def overwrite(name: str, content: bytes) -> None:
        (place / name).chmod(0o644)
        (place / name).write_bytes(content)

    options = {"keyfile": str(folder / "key"), "allow_agent": "false"}
    return Remote(f"ssh://{user}@127.0.0.1:{port}{place}", options, overwrite)


def ssh_key(folder: Path) -> Path:
    """Of the server and of its only user, who is named in ``authorized``."""
    pytest.importorskip("dvc_ssh", reason="pip install '.[remotes]'")
    key = pytest.importorskip("asyncssh").generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "key")
    key.write_public_key(folder / "authorized")
    return folder / "key"


@contextmanager
def ssh_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    asyncssh, key = pytest.importorskip("asyncssh"), ssh_key(folder)
    loop = asyncio.new_event_loop()

    async def listen() -> Any:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[str(key)], sftp_factory=True,
            authorized_client_keys=str(folder / "authorized"),
        )  # fmt: skip

    async def close() -> None:
        server.close()
        await server.wait_closed()

    server = loop.run_until_complete(listen())
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield ssh_remote("test", server.get_port(), folder)
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def openssh_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    sshd = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
    if sshd is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    ssh_key(folder).chmod(0o600)
    with suppress(PermissionError):  # only root's server asks for it
        Path("/run/sshd").mkdir(exist_ok=True)
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": folder / "key", "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    (folder / "sshd").write_text("".join(f"{name} {to}\n" for name, to in settings.items()))
    server = subprocess.Popen(
        [sshd, "-D", "-e", "-f", str(folder / "sshd")], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    said = server.stderr.readline()
    try:
        assert "listening" in said, said + server.stderr.read()
        yield ssh_remote(getuser(), port, folder)
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture(params=[s3_server, ssh_server, openssh_server], ids=["s3", "ssh", "openssh"])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Remote]:
    with request.param(tmp_path, monkeypatch) as there:
        yield there


def run(home: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=home, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def dvc(home: Path, *words: str) -> str:
    return run(home, sys.executable, "-m", "dvc", *words)


def name_remote(home: Path, remote: Remote) -> None:
    """In .dvc/config.local, which git does not take."""
    lines = ["[core]", "remote = there", "['remote \"there\"']", f"url = {remote.url}"]
    lines += [f"{key} = {value}" for key, value in remote.options.items()]
    (home / ".dvc/config.local").write_text("\n".join(lines) + "\n")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose only stage would fail if anything ran it."""
    home = tmp_path / "mine"
    raw, volumes = Path("data/raw/mine"), Path("data/interim/mine/volumes")
    for folder in (raw, volumes, Path("stages")):
        (home / folder).mkdir(parents=True)
    monkeypatch.chdir(home)
    shutil.copy(ROOT / "pyproject.toml", home)
    Path("stages/ingest.py").write_text("import numpy\n")
    shutil.copy(ROOT / "params.yaml", home)
    derivations = []
    for i in range(20):
        file, volume = raw / f"{i}.dcm", volumes / f"{i}.nii.gz"
        file.write_bytes(bytes([i]) * 1000)
        volume.write_bytes(bytes([i]) * 2000)
        derivations.append(Derivation(Entity.of_file(volume), (Entity.of_file(file),)))
    activity = Activity("ingest", {}, (Path("stages/ingest.py"),))
    write_lineage(volumes.parent / "lineage", activity, derivations)
    stage = {"cmd": "false", "deps": [str(raw)], "outs": [str(volumes.parent)]}
    YAML().dump({"stages": {"ingest": stage}}, Path("dvc.yaml"))
    run(home, "git", "init", "--quiet")
    for words in (("init",), ("add", str(raw)), ("commit", "--force", "ingest")):
        dvc(home, *words, "--quiet")
    run(home, "git", "add", "--all")
    run(home, "git", "-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "-m", "all")
    return home


def test_what_was_pushed_is_pulled_whole_and_damage_there_is_found(
    remote: Remote, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_remote(mine, remote)
    dvc(mine, "push", "--quiet")
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(mine), str(clone))
    name_remote(clone, remote)
    dvc(clone, "pull", "--quiet")
    dvc(clone, "repro", "--quiet")  # the stage would fail
    monkeypatch.chdir(clone)
    whole = verify([])
    assert not whole.findings
    assert whole.files > 40

    volume = Path("data/interim/mine/volumes/7.nii.gz")
    kept = object_of(volume)
    remote.overwrite(kept.relative_to(".dvc/cache").as_posix(), bytes(2000))
    kept.unlink()
    volume.unlink()
    dvc(clone, "pull", "--quiet")
    assert volume.read_bytes() == bytes(2000), "DVC takes what it is given"
    assert volume.as_posix() in {found.path for found in verify([]).findings}


def object_of(file: Path) -> Path:
    """Where DVC's cache has it."""
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    return Path(".dvc/cache/files/md5", md5[:2], md5[2:])
