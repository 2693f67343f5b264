"""Opens a source of pictures: which kind it is, is judged from its content."""

import zipfile
from pathlib import Path

from ...errors import UserError
from ...sniff import begins_like_picture
from ..text import one_line
from .folder import Folder, RemoteFolder
from .idx import IdxFile, begins_like_pictures, looks_like_idx
from .lists import FileList, RemoteList, RemoteSingle, Single
from .places import Place, mark_of, open_remote, url_of
from .source import Source, digest, file_fingerprint
from .tar import Tar, TarStream, is_tar_header
from .unpack import is_compressed
from .zip import Zip


def open_source(path: str | Path, skip: tuple[Path, ...] = ()) -> Source:
    """Find the kind of source at a path or URL from its content; `UserError` if it cannot have pictures.

    skip: folders to leave out (where the face set itself is written), and files that are not pictures.
    """
    if (url := url_of(path)) is not None:
        return _open_remote(Place(url))
    path = Path(path).expanduser()
    if not path.exists():
        what = "a folder, a tar, a zip, a list of files or a picture"
        raise UserError(f"there is no {one_line(path)}: give {what}")
    path = path.resolve()
    try:
        if path.is_dir():
            return Folder(path, skip)
        if not path.is_file():
            raise UserError(f"{one_line(path)} is neither a file nor a folder")
        if looks_like_idx(path.name) or begins_like_pictures(path):
            return IdxFile(path)
        with open(path, "rb") as file:
            start = file.read(512)
        if is_compressed(start):
            return TarStream(path, lambda: open(path, "rb"), True, file_fingerprint(path))
        # A picture with a zip after it is still a picture. A program with a zip after it is an archive.
        if begins_like_picture(start) and not is_tar_header(start):
            return Single(path)
        if zipfile.is_zipfile(path) and not is_tar_header(start):
            return Zip(path, open(path, "rb"), file_fingerprint(path))
    except PermissionError:
        raise UserError(f"no permission to read {one_line(path)}") from None
    except OSError as error:
        raise UserError(f"cannot read {one_line(path)}: {one_line(error.strerror or error)}") from None
    if is_tar_header(start):
        return Tar(path)
    if path.suffix.lower() == ".txt":
        return FileList(path)
    if not start:
        raise UserError(f"{one_line(path)} is empty (0 bytes)")
    if start.startswith(b"PK") or path.suffix.lower() in _ARCHIVES:
        raise UserError(f"{one_line(path)} is not a tar or zip that can be read: damaged, or of another kind")
    return Single(path)


_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".zst", ".7z", ".rar")


def _open_remote(place: Place) -> Source:
    info = place.info()
    folder = info is not None and (info.get("type") == "directory" or place.url.endswith("/"))
    if info is None or folder or (place.web and info.get("mimetype") == "text/html"):
        source = RemoteFolder(place)
        if not source.total:
            raise UserError(f"there are no files at {place.shown}: give a folder, an archive or a picture")
        return source
    size = info.get("size")
    mark = digest(size, mark_of(info))
    if looks_like_idx(place.name):
        raise UserError(f"{place.shown} is an IDX file: bring it here first, with its labels")
    file = open_remote(place, size)
    start = file.read(512)
    if is_compressed(start):
        file.close()
        return TarStream(place, lambda: open_remote(place, size), True, mark)
    if start.startswith(b"PK"):
        return Zip(place, file, mark)
    file.close()
    if is_tar_header(start):
        return TarStream(place, lambda: open_remote(place, size), False, mark)
    if not start:
        raise UserError(f"{place.shown} is empty (0 bytes)")
    suffix = Path(place.name).suffix.lower()
    if suffix in _ARCHIVES:
        raise UserError(f"{place.shown} is not a tar or zip that can be read: damaged, or of another kind")
    return RemoteList(place, mark) if suffix == ".txt" else RemoteSingle(place, mark)
