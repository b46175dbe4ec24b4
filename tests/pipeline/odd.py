"""Three layers with all the entries that are odd and allowed, each directory named by the layer that makes it.

What DESIGN.md and umoci mean differently is not in here, but in test_rows.py: hard links across layers (umoci links,
we refuse, as Docker does), and paths through a symlink of a lower layer (umoci follows it, overlayfs does not).
"""
import tarfile

from tars import END, block, info, line, pax, tar_of

DIR, SYM, LINK, CHR, BLK, FIFO = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                                  tarfile.FIFOTYPE)
CAPABILITY = bytes.fromhex("01000002 00200000 00000000 00000000 00000000".replace(" ", ""))  # cap_net_raw+ep
BINARY = bytes(range(256))
DEEP = ["o/" + "/".join("%03d" % n + "p" * 60 for n in range(depth + 1)) for depth in range(16)]
DAY = 86400


def folder(name, **more):
    return info(name, DIR, **({"mode": 0o755, "mtime": 40 * DAY} | more))


def file(name, content=b"", **more):
    return info(name, **({"mtime": 41 * DAY} | more)), content


def link(name, target, kind=LINK):
    return info(name, kind, linkname=target, mtime=42 * DAY)


def attributes():
    """Extended attributes of any bytes, which tarfile does not write."""
    return b"".join([
        pax([line(b"SCHILY.xattr.security.capability", CAPABILITY), line(b"SCHILY.xattr.user.binary", BINARY),
             line(b"SCHILY.xattr.user.empty", b"")], block(b"o/attributes", content=b"x", size=1)),
        pax([line(b"SCHILY.xattr.user.d", b"of a directory"), line(b"SCHILY.xattr.trusted.t", b"y")],
            block(b"o/attributes.d", b"5")),
        pax(line(b"SCHILY.xattr.trusted.link", b"of a symlink"), block(b"o/attributes.l", b"2", link=b"x")),
        pax(line(b"SCHILY.xattr.user.linked", b"z"), block(b"o/attributes.1")),
        block(b"o/attributes.2", b"1", link=b"o/attributes.1"),
    ])


def names():
    """Names that are no ASCII, in pax headers and without; composed, decomposed, and no UTF-8 at all."""
    nfc, nfd, latin = "\u00e9".encode(), "e\u0301".encode(), b"\xe9"
    return b"".join(block(b"o/plain-" + name) + pax(line(b"path", b"o/pax-" + name), block()) +
                    pax(line(b"linkpath", b"to-" + name), block(b"o/link-" + name, b"2", link=b"x"))
                    for name in (nfc, nfd, latin, b"new\nline", b"blank ", b"\\", b"-rf"))


def times():
    return b"".join(pax(line(b"mtime", text), block(b"o/time" + text))
                    for text in (b"-1.5", b"-86400", b"-1000000000.000000001", b"0", b"0.000000001", b"1.123456789",
                                 b"1234567890.999999999", b"5000000000"))


def without_end(*members, **options):
    """A tar's members, to go on behind."""
    tar = tar_of(*members, **options)
    return tar[:len(tar.rstrip(b"\0")) + 511 & ~511] if members else b""


def first():
    return without_end(
        folder("o/", mode=0o1777), folder("o/setgid/", mode=0o2775, gid=50), file("o/setgid/f", b"f"),
        folder("o/setgid/d/"), folder("o/none/", mode=0), file("o/none/f", mode=0),
        file("o/setuid", b"u", mode=0o4755), file("o/setgid-file", b"g", mode=0o2711), file("o/sticky", mode=0o1644),
        file("o/owner", b"o", uid=2 ** 32 - 2, gid=2 ** 31), file("o/empty"), file("o/holes", b"\0" * 300000 + b"end"),
        info("o/null", CHR, devmajor=1, devminor=3, mode=0o666), info("o/loop", BLK, devmajor=7, devminor=300),
        info("o/fifo", FIFO, mode=0o620, uid=7),
        link("o/dangling", "nowhere", SYM), link("o/round-1", "round-2", SYM), link("o/round-2", "round-1", SYM),
        link("o/self", "self", SYM), link("o/absolute", "/etc/passwd", SYM), link("o/out", "../../../etc", SYM),
        link("o/long-target", "t" * 3000, SYM), link("o/d", "setgid", SYM), file("o/d/through", b"a link of this layer"),
        file("o/link-1", b"linked"), link("o/link-2", "o/link-1"), link("o/setgid/link-3", "./o/link-2"),
        link("o/link-4", "/o/d/link-3"), link("o/round-hard", "o/round-1"), link("o/fifo-hard", "o/fifo"),
        file("o/gone-1", b"stays under another name"), link("o/gone-2", "o/gone-1"), link("o/gone-3", "o/gone-1"),
        file("o/split-1", b"split"), link("o/split-2", "o/split-1"), link("o/split-3", "o/split-1"),
        file("o/twice", b"first"), file("o/twice", b"the last one counts"), file("o/changes", b"a file"),
        folder("o/changes", mode=0o700), *[folder(path + "/") for path in DEEP], file(DEEP[-1] + "/" + "n" * 255, b"deep"),
        folder("o/opaque/"), file("o/opaque/below"), folder("o/opaque/d/"), file("o/opaque/d/below"),
        folder("o/opaque-late/"), file("o/opaque-late/below"), folder("o/to-file/"), folder("o/to-file/d/"),
        file("o/to-file/d/f"), folder("o/to-link/"), file("o/to-link/f"), file("o/to-dir", b"a file"),
        link("o/link-to-dir", "setgid", SYM), folder("o/back/"), file("o/back/below", b"not seen again"),
        folder("o/merged/", uid=1), file("o/merged/below", b"1"), file("o/merged/both", b"1"),
        folder("o/renewed/"), file("o/renewed/below"), file("o/kept", b"kept", mtime=43 * DAY)) + \
        without_end(file("o/gnu-" + "g" * 200, b"g", uid=2 ** 32 - 2), format=tarfile.GNU_FORMAT) + \
        attributes() + names() + times() + END


def second():
    return tar_of(
        file("o/.wh.gone-1"), file("o/split-2", b"its own content now"), file("o/opaque/.wh..wh..opq"),
        file("o/opaque/new", b"n"), folder("o/opaque/e/"), file("o/opaque-late/new"), file("o/opaque-late/.wh..wh..opq"),
        file("o/to-file", b"a file now"), link("o/to-link", "kept", SYM), folder("o/to-dir/", uid=3),
        file("o/to-dir/f", b"f"), folder("o/link-to-dir/"), file("o/link-to-dir/f"), file("o/back", b"a file for now"),
        folder("o/merged/", uid=2, mode=0o711, mtime=-5 * DAY), file("o/merged/both", b"2"), file("o/merged/above", b"2"),
        file("o/.wh.renewed"), folder("o/renewed/", gid=9), file("o/renewed/above"), file("o/.wh.never-there"),
        info("o/.wh.attributes.2"), file("o/sticky", b"", mode=0o600, uid=2 ** 31))


def third():
    return tar_of(folder("o/back/", mode=0o750), file("o/back/above", b"b"), file("o/merged/.wh.below"),
                  file("o/.wh.split-3"), info("o/fifo", FIFO, mode=0o600), file("o/to-dir/.wh.f"),
                  # A file put into a directory that only lower layers name leaves its times alone.
                  file("o/setgid/late", b"l"))


def layers():
    return [first(), second(), third()]
