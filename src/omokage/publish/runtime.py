"""ONNX Runtime for browsers: its files, of one version, checked by their hashes.

They are not part of the package. They come from a folder that is named, from the cache folder, or from
npm's registry through ``npm``.
"""

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ..data.text import one_line
from ..errors import UserError
from ..files import cache_folder, replacing

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # SHA-512
)
# The build for WebAssembly alone, and SHA-256 of its files.
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
HOW = f"unpack `npm pack {PACKAGE}@{VERSION}` and name the folder with --runtime"
LICENCE = f"""ONNX Runtime Web {VERSION}, MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def runtime_files(folder: Path | None = None, *, seconds: float = 300) -> dict[str, bytes] | str:
    """The files as a page loads them, by name; or one sentence why there are none.

    The machine code is packed by gzip, because not every static server packs what it sends; the page unpacks
    it. ``seconds``: how long npm may take.

    Raises:
        UserError: ``folder`` is named and does not have these files.
    """
    if folder is not None:
        found = _read(folder)
        if isinstance(found, str):
            raise UserError(f"--runtime {one_line(folder)}: {found}; {HOW}")
        return _for_page(found)
    kept = cache_folder() / f"{PACKAGE}-{VERSION}"
    found = _read(kept)
    if isinstance(found, str):
        found = _from_npm(seconds)
        if isinstance(found, str):
            return f"{found}; {HOW}"
        try:
            kept.mkdir(parents=True, exist_ok=True)
            for name, data in found.items():
                with replacing(kept / name) as unfinished:
                    unfinished.write_bytes(data)
        except OSError:
            pass  # a cache that cannot be written costs time only
    return _for_page(found)


def _for_page(files: dict[str, bytes]) -> dict[str, bytes]:
    code, loader, machine = (files[name] for name in FILES)
    packed = gzip.compress(machine, 9, mtime=0)
    return {"ort.js": code, "ort-loader.js": loader, "ort.bin": packed, "ort-licence.txt": LICENCE.encode()}


def _read(folder: Path) -> dict[str, bytes] | str:
    """The files in ``folder``, as it is or as npm packs it; or what is wrong."""
    found: dict[str, bytes] = {}
    for name, digest in FILES.items():
        for place in (folder, folder / "dist", folder / "package" / "dist"):
            try:
                found[name] = (place / name).read_bytes()
                break
            except OSError:
                continue
        if name not in found:
            return f"it has no {name}"
        if hashlib.sha256(found[name]).hexdigest() != digest:
            return f"its {name} is not that of {PACKAGE} {VERSION}"
    return found


def _from_npm(seconds: float) -> dict[str, bytes] | str:
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm to fetch ONNX Runtime for browsers"
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=seconds, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return f"npm did not fetch {PACKAGE}"
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            return f"npm did not fetch {PACKAGE}"
        data = archives[0].read_bytes()
        if base64.b64encode(hashlib.sha512(data).digest()).decode() != INTEGRITY:
            return f"npm gave another {PACKAGE} than the one that is known"
        found = {}
        with tarfile.open(archives[0]) as archive:  # read only, nothing is unpacked
            for name in FILES:
                member = archive.extractfile(f"package/dist/{name}")
                assert member is not None
                found[name] = member.read()
        return found
