"""How does a large file come here whole, or not at all?

By HTTPS; a transfer that broke off is continued where it stood, and the hash decides whether it counts.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.step import Step

if TYPE_CHECKING:
    pass

TIMEOUT = 20  # seconds without a byte, after which a connection counts as lost
CHUNK = 1 << 18  # bytes read at a time
TRIES = 5  # connections per download; each goes on where the one before was cut


class FetchFailed(RuntimeError):
    """The network is not there and why, in one sentence."""


class Offline(FetchFailed):
    """The server could not be reached, or does not give the file out."""


class WrongHash(FetchFailed):
    """The file that came is not the one that was published; it has been removed."""


class Busy(FetchFailed):
    """The same network is being fetched at this moment."""


class _Cut(Exception):
    """The connection ended before the file did."""


def download(url: str, path: Path, *, md5: str = "") -> Iterator[Step]:
    """Load `url` into `path`, which appears only when it is whole and its hash right.

    url: its file name ends with the beginning of the content's SHA-256, as in resnet18-f37072fd.pth; or else `md5` is
    the content's, where that is all that the publisher says.
    What has come stands in `path` + ".part", also after an error, and the next call asks for the rest of it.
    Yields Step(bytes there, bytes in all, the Path of the unfinished file). Raises Offline, WrongHash.
    """
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        start = part.stat().st_size if part.exists() else 0
        try:
            yield from _transfer(url, part, start)
        except _Cut:
            continue
        if sha256_of(part, "md5") == md5 if md5 else hash_is_right(part, url):
            os.replace(part, path)
            return
        part.unlink()
        if start == 0:  # otherwise, what was there before may have been of another file: once more, from the beginning
            said = "MD5 than was published" if md5 else "SHA-256 than its name says"
            raise WrongHash(f"{path.name} came with another {said}, and has been removed.")
    raise Offline(
        f"The connection to {_host(url)} was lost {TRIES} times; the next try goes on where this one stopped."
    )


def _transfer(url: str, part: Path, start: int) -> Iterator[Step]:
    """One connection: append to `part` what comes after its first `start` bytes. Raises Offline, _Cut."""
    headers = {"User-Agent": "convoscope"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing comes after what is there: the hash tells whether that is the file
        raise Offline(
            f"{_host(url)} does not give out {file_name(url)} (HTTP {error.code}); the app goes on with what it has."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise Offline(f"{_host(url)} could not be reached ({why}); the app goes on with what it has.") from error
    with response:
        done = start if response.status == http.client.PARTIAL_CONTENT else 0  # 0: it sends all of it again
        total = done + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if done else "wb") as file:
            while True:
                try:
                    chunk = response.read(CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise _Cut from error
                if not chunk:
                    break
                file.write(chunk)
                done += len(chunk)
                yield Step(done, max(done, total), part)
    if done < total:
        raise _Cut


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def file_name(url: str) -> str:
    return urllib.parse.urlsplit(url).path.rpartition("/")[2]


def sha256_of(file: Path, kind: str = "sha256") -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, kind).hexdigest()


def hash_is_right(file: Path, url: str) -> bool:
    """Whether the file's SHA-256 begins as its name in `url` ends."""
    expected = file_name(url).rpartition("-")[2].partition(".")[0]
    return sha256_of(file).startswith(expected)
