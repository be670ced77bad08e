"""Text files that are members of a zip archive, read in place: nothing is ever unpacked to the disk."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from recbench.core.errors import UserError

#: What reading a member raises if the bytes are not what the archive's index promises..
MEMBER_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)

#: A message about a member that is not there lists at most so many that are.
LISTED_MEMBERS = 12


def find_member(archive: Path, folder: str, name: str) -> str:
    """The member ``folder/name``, or else the one called ``name`` that lies least deep.

    Raises UserError if the archive cannot be opened or has no such member.
    """
    names = members(archive)
    fitting = [n for n in names if PurePosixPath(n).name == name]
    if not fitting:
        more = f" and {len(names) - LISTED_MEMBERS} more" if len(names) > LISTED_MEMBERS else ""
        held = ", ".join(repr(n) for n in names[:LISTED_MEMBERS]) + more if names else "nothing"
        raise UserError(f"{archive} has no {name}; it holds {held}: is it the archive of another release?")
    return min(fitting, key=lambda n: (n != f"{folder}/{name}", n.count("/"), n))


def members(archive: Path) -> list[str]:
    """The names of the files in an archive, less what a Mac adds. Raises UserError if it cannot be opened."""
    with archive.open("rb") as file, _opened(file, archive) as opened:
        names = [entry.filename for entry in opened.infolist() if not entry.is_dir()]
    # What a Mac adds to an archive repeats the names of its files.
    return [n for n in names if not n.startswith("__MACOSX/") and PurePosixPath(n).name != ".DS_Store"]


def open_member(file: IO[bytes], archive: Path, member: str) -> IO[bytes]:
    """The unpacked bytes of a member, as a stream. Raises UserError if it cannot be opened.

    ``file`` is the opened archive, ``archive`` its path for messages; closing ``file`` is the caller's.
    """
    opened = _opened(file, archive)
    try:
        return opened.open(member)
    except (RuntimeError, NotImplementedError) as error:
        # zipfile has no class of its own for a member that wants a password or an unknown compression.
        raise UserError(f"{archive}: cannot read {member}: {error}") from error
    except MEMBER_DAMAGE as error:
        raise member_damage(archive, member, error) from error


def member_damage(archive: Path, member: str, error: Exception) -> UserError:
    """The message on a member whose bytes end early or do not fit their checksum."""
    how = "is cut short" if isinstance(error, EOFError) else f"is damaged ({error})"
    return UserError(f"{archive}: {member} {how}; delete the archive and fetch it again")


def _opened(file: IO[bytes], archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        file.seek(0)
        starts_as_zip = file.read(4) == b"PK\x03\x04"
        what = "is a zip archive cut short" if starts_as_zip else "is not a zip archive, whatever its name says"
        raise UserError(f"{archive} {what} ({error}); delete it and fetch it again") from error
