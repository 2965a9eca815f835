"""Which files of a folder or zip file are images, by their names; torch-free, so that a dry run can ask."""

import zipfile
from pathlib import Path

from jebm.errors import JebmError
from jebm.io.digests import folder_files

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def image_names(path: Path) -> list[str]:
    """The sorted names of all images below a folder, or in a zip file.

    Raises:
        JebmError: there is no such folder or zip file, or it holds no image.
    """
    if path.is_dir():
        names = folder_files(str(path))
    elif not path.is_file():
        raise JebmError(f"there is no folder and no zip file '{path}'")
    elif not zipfile.is_zipfile(path):
        raise JebmError(f"{path}: is neither a folder nor a zip file, or it is damaged")
    else:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if not Path(name).name.startswith((".", "__MACOSX")))
    found = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("__MACOSX")]
    if not found:
        other = f" ({len(names)} other files)" if names else ""
        raise JebmError(f"{path}: holds no image{other}; known suffixes: {', '.join(SUFFIXES)}")
    return found
