"""A PostgreSQL server of the system's own packages, in a temporary folder, without a network."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Missing(Exception):
    """There is no PostgreSQL here; the message says what is missing."""


def programs() -> Path:
    """The folder of ``initdb`` and ``postgres``; Debian keeps it out of the PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").is_file() and (place / "postgres").is_file():
            return place
    raise Missing("PostgreSQL is not installed (apt-get install postgresql); only SQLite is tested")


def _user() -> dict[str, object]:
    """As whom the server runs: it refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise Missing("PostgreSQL does not run as root, and there is no user postgres; only SQLite is tested")


def _in_memory() -> Path | None:
    """A folder in memory, if there is room for the databases of all tests; None: the usual one."""
    shared = Path("/dev/shm")
    try:
        return shared if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 4 * 2**30 else None
    except OSError:
        return None


@contextmanager
def running() -> Iterator[Path]:
    """The folder of the socket of a running server; every local user may connect as ``postgres``."""
    place, who = programs(), _user()
    folder = Path(tempfile.mkdtemp(prefix="omokage-pg-", dir=_in_memory()))
    try:
        if who:
            os.chown(folder, who["user"], who["group"])  # type: ignore[arg-type]
        data = folder / "data"
        made = subprocess.run(
            [place / "initdb", "-D", data, "-N", "-U", "postgres", "--auth=trust", "-EUTF8", "--locale=C"],
            cwd=folder,
            capture_output=True,
            text=True,
            **who,
        )
        if made.returncode:
            raise Missing(f"initdb failed: {made.stderr.strip()[-200:]}")
        server = subprocess.Popen(
            [place / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **who,
        )
        try:
            _wait(folder, server)
            yield folder
        finally:
            server.send_signal(signal.SIGQUIT)  # at once, without waiting for clients or writing anything
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(folder: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            psycopg.connect(f"host={folder} user=postgres dbname=postgres", connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise Missing("PostgreSQL did not start; only SQLite is tested")


def new_database(folder: Path, name: str) -> str:
    """Make an empty database and give its URL."""
    import psycopg

    with psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"postgresql://postgres@/{name}?host={folder}"
