"""Tars for tests: from tarfile, or header by header for what tarfile would not write."""
import io
import tarfile


def info(name, kind=tarfile.REGTYPE, **more):
    """A member for tar_of."""
    i = tarfile.TarInfo(name)
    i.type = kind
    for key, value in more.items():
        setattr(i, key, value)
    return i


def tar_of(*members, **options):
    """A tar of members: TarInfo, or (TarInfo, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as t:
        for m in members:
            i, content = m if isinstance(m, tuple) else (m, b"")
            if content:
                i.size = len(content)
            t.addfile(i, io.BytesIO(content))
    return out.getvalue()


def block(name=b"f", kind=b"0", size=0, link=b"", uid=b"0000000\0", magic=b"ustar\00000", content=b"", device=b"",
          size_field=None):
    """One raw header and its content; `kind` may be what tarfile would not write."""
    size_field = b"%011o\0" % size if size_field is None else size_field
    h = (name.ljust(100, b"\0") + b"0000644\0" + uid + b"0000000\0" + size_field + b"00000000000\0" + b" " * 8 +
         kind + link.ljust(100, b"\0") + magic + b"\0" * 64 + device.ljust(16, b"\0")).ljust(512, b"\0")
    h = h[:148] + b"%06o\0 " % sum(h) + h[156:]
    return h + content + b"\0" * (-len(content) % 512)


def pax(record, *rest):
    """A pax header of one record or a list, and what follows it."""
    body = b"".join(record if isinstance(record, list) else [record])
    return block(b"pax", b"x", len(body), content=body) + b"".join(rest)


def line(key, value):
    """A pax record."""
    n = len(key) + len(value) + 3
    while len(str(n)) + len(key) + len(value) + 3 != n:
        n = len(str(n)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (n, key, value)


END = b"\0" * 1024
