"""Layers in the form that containers/storage calls zstd:chunked, made from tars: so that a test can say something else
about a layer than what is in it. What Debian 13's buildah makes is among the tests too, where there is one.

    blob, annotations = Chunked()(tar)
    Layout(folder, tars, Chunked(lie=lambda toc: toc["entries"].reverse()).codec)
"""
import base64
import ctypes
import datetime
import hashlib
import io
import json
import struct
import tarfile

OLD, NEW = "io.containers.zstd-chunked.", "io.github.containers.zstd-chunked."
TYPES = {tarfile.REGTYPE: "reg", tarfile.AREGTYPE: "reg", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink",
         tarfile.LNKTYPE: "hardlink", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo"}
FORMAT_BITS = {"reg": 0o100000, "dir": 0o040000, "symlink": 0o120000, "hardlink": 0o100000, "char": 0o020000,
               "block": 0o060000, "fifo": 0o010000}
XATTR = "SCHILY.xattr."

_zstd = ctypes.CDLL("libzstd.so.1")
_zstd.ZSTD_compressBound.restype = _zstd.ZSTD_compress.restype = ctypes.c_size_t
_zstd.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
_zstd.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]


def compress(data):
    room = _zstd.ZSTD_compressBound(len(data))
    out = ctypes.create_string_buffer(room)
    length = _zstd.ZSTD_compress(out, room, data, len(data), 1)
    return out.raw[:length]


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def skippable(data):
    return struct.pack("<II", 0x184D2A50, len(data)) + data


def time_text(mtime):
    time = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(mtime // 1))
    fraction = f"{mtime % 1:.9f}"[1:].rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


class Chunked:
    """Called with a tar: its blob and the annotations of its layer. `lie(toc)` may change the table of contents before
    it is written, `tell(annotations)` what the manifest says of it."""

    def __init__(self, prefix=NEW, chunk=32768, lie=None, tell=None):
        self.prefix, self.chunk, self.lie, self.tell = prefix, chunk, lie, tell
        self.codec = ("+zstd", self)

    def __call__(self, tar):
        blob, entries, end = bytearray(), [], 0
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            for member in archive:
                content = tar[member.offset_data:member.offset_data + member.size] if member.isreg() else b""
                blob += compress(tar[end:member.offset_data])
                end = member.offset_data + len(content)
                entries += self.entries(member, content, blob)
        blob += compress(tar[end:])
        toc = {"version": 1, "entries": entries}
        if self.lie:
            self.lie(toc)
        raw = toc if isinstance(toc, bytes) else toc.pop("raw", None) or json.dumps(toc).encode()
        packed = compress(raw)
        annotations = {self.prefix + "manifest-checksum": digest(packed),
                       self.prefix + "manifest-position": f"{len(blob) + 8}:{len(packed)}:{len(raw)}:1"}
        if self.tell:
            self.tell(annotations)
        blob += skippable(packed) + skippable(struct.pack("<QQQQ", len(blob) + 8, len(packed), len(raw), 1) + b"GnUlInUx")
        return bytes(blob), annotations

    def entries(self, member, content, blob):
        kind = TYPES[member.type]
        entry = {"type": kind, "name": member.name + ("/" if kind == "dir" else ""),
                 "mode": member.mode | FORMAT_BITS[kind], "modtime": time_text(float(member.mtime)),
                 "size": len(content), "uid": member.uid, "gid": member.gid}
        if kind in ("symlink", "hardlink"):
            entry["linkName"] = member.linkname
        if kind in ("char", "block"):
            entry |= {"devMajor": member.devmajor, "devMinor": member.devminor}
        xattrs = {key[len(XATTR):]: base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
                  for key, value in member.pax_headers.items() if key.startswith(XATTR)}
        if xattrs:
            entry["xattrs"] = xattrs
        rows = [entry]
        if content:
            entry |= {"digest": digest(content), "offset": len(blob)}
        pieces = [content[at:at + self.chunk] for at in range(0, len(content), self.chunk)]
        for number, piece in enumerate(pieces):
            chunk = {"chunkSize": len(piece), "chunkDigest": digest(piece)}
            if not piece.strip(b"\0"):
                chunk["chunkType"] = "zeros"
            if number:
                rows.append({"type": "chunk", "name": entry["name"], "offset": len(blob),
                             "chunkOffset": number * self.chunk} | chunk)
            elif len(pieces) > 1:
                entry |= chunk
            blob += compress(piece)
        if content:
            entry["endOffset"] = len(blob)
        return rows if self.prefix == OLD else [{key: value for key, value in row.items() if value} for row in rows]
