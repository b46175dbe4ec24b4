"""The role decode, as it is: `slipway decode` with frames on descriptors 3 and 4, lent blocks on 5 and 6, sanitizers on.

Layers come from Python's tarfile, from headers made by hand, and through the gzip, zstd and lz4 tools; what comes
back is compared with what tarfile reads, or must be the refusal that the rules ask for.
"""
import fcntl
import functools
import gzip
import hashlib
import io
import mmap
import os
import pathlib
import random
import resource
import select
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from tars import END, block, info, line, pax, tar_of  # pylint: disable=wrong-import-position
PATIENCE_S = 20
MEMORY = 12288 * 1024  # CONFIG_MEM_DECODE_KB

JOB, RAW, RAW_END, ENTRY, DATA, ENTRY_END, JOB_END, RESULT = range(5, 13)
ERR, LENT, BLOCK_END, CHECKPOINT = 15, 22, 23, 24
BLOCKS_LEN, BLOCK_CNT = 512 * 1024, 4  # CONFIG_MEM_BLOCKS_KB
NONE, GZIP, ZSTD, LZ4 = 1, 2, 3, 4
LAYER, MANIFEST = 4, 2
NODE, HARDLINK, WHITEOUT, OPAQUE = 1, 2, 3, 4
FILE, DIR, SYMLINK, CHAR, BLOCK, FIFO = range(1, 7)
DIGEST, SIZE, FORMAT, LIMIT, POLICY, SPACE = -5000, -5001, -5002, -5003, -5004, -5006
UNSUPPORTED = -5018

JOB_STRUCT = struct.Struct("=III4xQQ32s256sQQI4x")
CHECKPOINT_STRUCT = struct.Struct("=QQI4x")
HEAD = struct.Struct("=QqIIIIIIIIIHHHH4x")


def frame(kind, payload):
    return struct.pack("=HHI", kind, 0, len(payload)) + payload


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__("%d: %s" % (code, text))
        self.code, self.text = code, text


class Checkpoint:
    def __init__(self, payload, entries):
        self.at, self.sum, self.open = CHECKPOINT_STRUCT.unpack_from(payload)
        self.payload = payload
        self.done = len(entries) - self.open  # entries that are through
        self.content = len(entries[-1].content) if self.open else 0


class Entry:
    def __init__(self, payload):
        (self.size, self.mtime, self.ns, self.type, self.node, self.mode, self.uid, self.gid, self.major,
         self.minor, xattr_len, self.xattr_cnt, path_len, target_len, _) = HEAD.unpack_from(payload)
        at = HEAD.size
        self.path = payload[at:at + path_len]
        self.target = payload[at + path_len:at + path_len + target_len]
        self.xattrs = dict(self.attributes(payload[at + path_len + target_len:]))
        self.content = bytearray()
        self.lent = 0
        self.sum = None

    @staticmethod
    def attributes(block):
        while block:
            name_len, value_len = struct.unpack_from("=HI", block)
            yield block[6:6 + name_len], block[6 + name_len:6 + name_len + value_len]
            block = block[6 + name_len + value_len:]


class Decode:
    """The role, spoken to by one thread: what can be written is written, what came is read, and nothing waits longer
    than PATIENCE_S for either."""

    def __init__(self, folder, program, memory=None):
        conf = folder / "agent.conf"
        conf.write_text("[trust]\npolicy = off\n[registry]\nimage = registry.example.com/a:b\n")
        raw_r, self.raw = os.pipe()
        self.entries, entries_w = os.pipe()
        back_r, self.back = os.pipe()
        shared = os.memfd_create("blocks")
        os.ftruncate(shared, BLOCKS_LEN)
        self.blocks = mmap.mmap(shared, BLOCKS_LEN, prot=mmap.PROT_READ)
        theirs = (raw_r, entries_w, shared, back_r)

        def place():
            # The role wants 3 and 4, whatever numbers the pipes have here.
            if memory:
                resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in theirs]
            for n, fd in enumerate(high):
                os.dup2(fd, 3 + n)

        self.process = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
            [program, "decode", "-c", conf], preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL,
            env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
        for fd in theirs:
            os.close(fd)
        os.set_blocking(self.raw, False)
        self.unsent = memoryview(b"")
        self.came = bytearray()

    def close(self):
        for fd in self.raw, self.entries, self.back:
            os.close(fd)
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "still running"

    def send(self, job, blob, piece, checkpoint=b""):
        frames = [frame(JOB, job), checkpoint] + [frame(RAW, blob[at:at + piece]) for at in range(0, len(blob), piece)]
        assert not self.unsent
        self.unsent = memoryview(b"".join([*frames, frame(RAW_END, b"")]))

    def move(self):
        """Wait until one of the pipes moves."""
        readable, writable, _ = select.select([self.entries], [self.raw] if self.unsent else [], [], PATIENCE_S)
        assert readable or writable, "decode neither reads nor writes"
        if readable:
            more = os.read(self.entries, 1 << 20)
            if not more:
                raise EOFError("decode ended: %s" % self.process.wait(PATIENCE_S))
            self.came += more
        if writable:
            self.unsent = self.unsent[os.write(self.raw, self.unsent[:1 << 16]):]

    def read(self, length):
        while len(self.came) < length:
            self.move()
        got = bytes(self.came[:length])
        del self.came[:length]
        return got

    def frame(self):
        kind, zero, length = struct.unpack("=HHI", self.read(8))
        assert zero == 0
        return kind, self.read(length)

    def layer(self, tar, blob=None, codec=NONE, diff_id=None, content_max=1 << 40, size=None, only=b"", piece=50000,
              every=0, go_on=None, early=0):
        """Have a layer decoded. Returns its entries, or raises Refused. With `every`, self.checkpoints are those that were
        offered; `go_on` is one to begin at, with so many bytes of the blob before it."""
        blob = tar if blob is None else blob
        diff_id = hashlib.sha256(tar).digest() if diff_id is None else diff_id
        size = len(blob) if size is None else size
        offset = max(0, go_on.at - early) if go_on else 0
        self.send(JOB_STRUCT.pack(LAYER, codec, 0, size, content_max, diff_id, only, every, offset, bool(go_on)),
                  blob[offset:], piece, frame(CHECKPOINT, go_on.payload) if go_on else b"")
        self.checkpoints = []
        try:
            return self.answer(len(tar))
        finally:
            while self.unsent:
                self.move()

    def document(self, text):
        """Have a manifest parsed."""
        self.send(JOB_STRUCT.pack(MANIFEST, NONE, 0, 1 << 30, 0, bytes(32), b"", 0, 0, 0), text, 4096)
        try:
            return self.answer(0)
        finally:
            while self.unsent:
                self.move()

    def answer(self, tar_len, entries=()):
        entries = list(entries)
        while True:
            kind, payload = self.frame()
            if kind == ENTRY:
                entries.append(Entry(payload))
            elif kind == DATA:
                entries[-1].content += payload
            elif kind == LENT:
                at, length = struct.unpack("=II", payload)
                assert length > 0 and at + length <= BLOCKS_LEN
                entries[-1].content += self.blocks[at:at + length]
                entries[-1].lent += length
            elif kind == BLOCK_END:
                os.write(self.back, b"\0")
            elif kind == CHECKPOINT:
                self.checkpoints.append(Checkpoint(payload, entries))
            elif kind == ENTRY_END:
                entries[-1].sum = struct.unpack("=Q", payload)[0]
            elif kind == JOB_END:
                assert struct.unpack_from("=Q", payload)[0] == tar_len
                return entries
            else:
                assert kind == ERR
                raise Refused(struct.unpack_from("=i", payload)[0], payload[4:].split(b"\0")[0].decode())


@pytest.fixture(name="programs", scope="module")
def fixture_programs():
    """The role with sanitizers, and as it is shipped."""
    subprocess.run(["make", "-s", "BOARD=sim", "out/sim/slipway"], check=True, cwd=TOP, stdin=subprocess.DEVNULL,
                   timeout=600)
    subprocess.run(["make", "-s", "SAN=1", "out/sim-san/slipway"], check=True, cwd=TOP, stdin=subprocess.DEVNULL,
                   timeout=600)
    return TOP / "out/sim-san/slipway", TOP / "out/sim/slipway"


@pytest.fixture(name="decode")
def fixture_decode(tmp_path, programs):
    role = Decode(tmp_path, programs[0])
    yield role
    assert role.close() == 0


@pytest.fixture(name="limited")
def fixture_limited(tmp_path, programs):
    """With the ceiling that agentd gives it, which sanitizers would not fit under."""
    role = Decode(tmp_path, programs[1], MEMORY)
    yield role
    assert role.close() == 0


# --- layers ----------------------------------------------------------------------------------------------------------

def tool(*command):
    def run(data):
        if not shutil.which(command[0]):
            pytest.skip("no " + command[0])
        return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout
    return run


gz = functools.partial(gzip.compress, compresslevel=1)
zst = tool("zstd", "-cq", "--check")
lz = tool("lz4", "-cq")
PACK = [(NONE, lambda d: d), (GZIP, gz), (ZSTD, zst), (LZ4, lz)]
BIG = os.urandom(3_000_000)
BIG_TAR = tar_of((info("big"), BIG), (info("small"), b"x"))


def refused(decode, tar, code, words="", **options):
    with pytest.raises(Refused) as r:
        decode.layer(tar, **options)
    assert r.value.code == code, r.value
    assert words in r.value.text
    # and the next job works
    assert [e.path for e in decode.layer(tar_of(info("after")))] == [b"after"]


# --- what works ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_agrees_with_tarfile(decode, form):
    deep = "/".join(["d" * 60] * (2 if form == tarfile.USTAR_FORMAT else 12))
    tar = tar_of(info("etc/", tarfile.DIRTYPE, mode=0o1755, uid=5, gid=6, mtime=1700000000),
                 (info("etc/passwd", mode=0o4644, mtime=7), b"root:x"),
                 info("./etc/link", tarfile.SYMTYPE, linkname="../a b"),
                 info("etc/hard", tarfile.LNKTYPE, linkname="./etc/passwd"),
                 info("dev/tty", tarfile.CHRTYPE, devmajor=5, devminor=1),
                 info("dev/sda", tarfile.BLKTYPE, devmajor=8), info("fifo", tarfile.FIFOTYPE),
                 (info(deep), b"deep"), (info("big"), BIG), info("empty"), format=form)
    with tarfile.open(fileobj=io.BytesIO(tar)) as t:
        want = t.getmembers()
        got = decode.layer(tar)
        assert len(got) == len(want)
        for w, g in zip(want, got):
            assert g.path.decode() == os.path.normpath(w.name)
            if w.islnk():
                assert (g.type, g.target) == (HARDLINK, b"etc/passwd")
                continue
            assert (g.mode, g.uid, g.gid, g.mtime) == (w.mode, w.uid, w.gid, w.mtime)
            assert (g.major, g.minor) == ((w.devmajor, w.devminor) if w.isdev() and not w.isfifo() else (0, 0))
            if w.isreg():
                assert (g.node, g.size, g.content) == (FILE, w.size, t.extractfile(w).read())
                assert g.sum is not None
            if w.issym():
                assert (g.node, g.target) == (SYMLINK, b"../a b")


@pytest.mark.parametrize("codec,pack", PACK)
@pytest.mark.parametrize("piece", [1009, 65536])
def test_codecs(decode, codec, pack, piece):
    entries = decode.layer(BIG_TAR, pack(BIG_TAR), codec, piece=piece)
    assert [e.content for e in entries] == [BIG, b"x"]


def test_content_is_lent(decode):
    """But for what lies across two blocks, and what is short."""
    big, small = decode.layer(BIG_TAR)
    assert big.lent > 0.9 * len(BIG) and small.lent == 0


def test_a_lent_block_is_not_written_over(decode):
    """decode waits for the first block to come back, and what it lent stays as it was meanwhile."""
    decode.send(JOB_STRUCT.pack(LAYER, NONE, 0, len(BIG_TAR), 1 << 40, hashlib.sha256(BIG_TAR).digest(), b"", 0, 0, 0),
                BIG_TAR, 50000)
    said, lent = [], bytearray()
    while said.count(BLOCK_END) < BLOCK_CNT:
        kind, payload = decode.frame()
        said.append(kind)
        if kind == LENT:
            at, length = struct.unpack("=II", payload)
            lent += decode.blocks[at:at + length]
    for _ in range(20):
        if select.select([], [decode.raw], [], 0.1)[1]:
            decode.unsent = decode.unsent[os.write(decode.raw, decode.unsent[:1 << 16]):]
    assert not select.select([decode.entries], [], [], 0)[0], "decode went on with no block to fill"
    assert decode.unsent and bytes(lent) in BIG
    os.write(decode.back, b"\0" * BLOCK_CNT)
    decode.answer(len(BIG_TAR), [Entry(bytes(HEAD.size))])
    while decode.unsent:
        decode.move()


def test_several_frames(decode):
    half = len(BIG_TAR) // 2
    for codec, pack in PACK[1:]:
        blob = pack(BIG_TAR[:half]) + pack(BIG_TAR[half:])
        assert len(decode.layer(BIG_TAR, blob, codec)) == 2
    skip = struct.pack("<II", 0x184D2A53, 5) + b"12345"
    assert len(decode.layer(BIG_TAR, skip + zst(BIG_TAR) + skip, ZSTD)) == 2


# --- checkpoints -----------------------------------------------------------------------------------------------------

def facts(entries):
    return [(e.path, e.type, e.node, e.mode, e.size, e.mtime, e.target, e.xattrs, e.sum) for e in entries]


def check_going_on(decode, tar, blob, codec, checkpoints, entries, **options):
    """From each checkpoint on, what is missing comes, and nothing else."""
    for n, place in enumerate(checkpoints):
        rest = decode.layer(tar, blob, codec, go_on=place, early=n % 3 * 1000, **options)
        assert facts(rest) == facts(entries[place.done:]), f"{n}: {place.at}"
        begun = entries[place.done].content[:place.content] if place.open else b""
        for got, want in zip(rest, entries[place.done:]):
            assert begun + got.content == want.content
            begun = b""


def mixed_tar(form=tarfile.PAX_FORMAT):
    """Entries of every length of headers; contents that end anywhere in a block of 512."""
    rng = random.Random("mixed")
    members = []
    for n in range(160):
        name = "n%d/" % n + "/".join(["p" * rng.randrange(1, 90)] * rng.randrange(1, 9))
        content = rng.randbytes(rng.choice([0, 1, 511, 512, 513, 1000, 3000, 20000])) + b"text " * rng.randrange(4000)
        members.append((info(name, mtime=n, mode=0o600 + n % 64), content))
        if n % 7 == 0:
            members.append(info("link%d" % n, tarfile.SYMTYPE, linkname=name[:90]))
    return tar_of(*members, format=form)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_goes_on_at_every_block_of_gzip(decode, form):
    tar = mixed_tar(form)
    blob = gz(tar)
    entries = decode.layer(tar, blob, GZIP, every=1)
    checkpoints = list(decode.checkpoints)
    assert len(checkpoints) > len(blob) / 40000, "there are more blocks than that"
    assert any(p.open for p in checkpoints)
    check_going_on(decode, tar, blob, GZIP, checkpoints, entries)


def flushed(tar, step):
    """gzip whose blocks end every `step` bytes of the tar."""
    packer = zlib.compressobj(1, wbits=31)
    pieces = [packer.compress(tar[at:at + step]) + packer.flush(zlib.Z_SYNC_FLUSH) for at in range(0, len(tar), step)]
    return b"".join(pieces) + packer.flush()


def test_goes_on_anywhere_in_the_headers(decode):
    """Blocks that end at every byte of a long header, of padding and around the borders."""
    tar = tar_of((info("a" * 90 + "/" + "b" * 200, mtime=1.5), b"x" * 700), info("d/", tarfile.DIRTYPE),
                 (info("\u00fc" * 80, mtime=2.25), b"y" * 100), format=tarfile.PAX_FORMAT)
    for step in 64, 129, 511, 512, 513:
        blob = flushed(tar, step)
        entries = decode.layer(tar, blob, GZIP, every=1, piece=7)
        assert len(decode.checkpoints) >= len(tar.rstrip(b"\0")) // step - 2
        check_going_on(decode, tar, blob, GZIP, list(decode.checkpoints), entries)


def test_goes_on_from_where_it_went_on(decode):
    blob = gz(BIG_TAR)
    entries = decode.layer(BIG_TAR, blob, GZIP, every=500_000)
    place, content, hops = decode.checkpoints[0], b"", 0
    while True:
        before = place.content
        rest = decode.layer(BIG_TAR, blob, GZIP, every=400_000, go_on=place)
        if not decode.checkpoints:
            break
        # what a later checkpoint counts is behind the part that this job did not send
        hops, place = hops + 1, decode.checkpoints[0]
        assert place.open and place.at > 0
        content += rest[0].content[:place.content]
        place.content += before
    assert hops > 3 and facts(rest) == facts(entries)
    assert BIG.endswith(rest[0].content)


@pytest.mark.parametrize("codec,pack,places", [(NONE, lambda d: d, 8), (GZIP, gz, 8), (ZSTD, zst, 8), (LZ4, lz, 8)])
def test_goes_on_between_members_and_frames(decode, codec, pack, places):
    """Of gzip also within them: there is a place at every block, and pieces of its tail in between."""
    tar, step = mixed_tar(), 100_000
    blob = b"".join(pack(tar[at:at + step]) for at in range(0, len(tar), step))
    entries = decode.layer(tar, blob, codec, every=1, piece=977)
    checkpoints = list(decode.checkpoints)
    assert len(checkpoints) >= places
    check_going_on(decode, tar, blob, codec, checkpoints[::1 + len(checkpoints) // 60], entries, piece=983)


def test_one_frame_is_one_piece(decode):
    tar = mixed_tar()
    assert decode.layer(tar, zst(tar), ZSTD, every=1) and decode.checkpoints == []


def test_checkpoints_keep_their_distance(decode):
    blob = gz(BIG_TAR)
    decode.layer(BIG_TAR, blob, GZIP, every=700_000)
    at = [0] + [p.at for p in decode.checkpoints]
    assert len(at) == 5 and all(700_000 <= b - a < 800_000 for a, b in zip(at, at[1:]))


def test_goes_on_in_a_file_that_is_passed_over(decode):
    """With `only`, and within other content than what is handed on."""
    blob = gz(BIG_TAR)
    entries = decode.layer(BIG_TAR, blob, GZIP, every=500_000, only=b"small")
    assert [e.path for e in entries] == [b"small"] and len(decode.checkpoints) > 3
    check_going_on(decode, BIG_TAR, blob, GZIP, list(decode.checkpoints), entries, only=b"small")


def test_headers_too_long_for_a_checkpoint(decode):
    tar = pax([line(b"SCHILY.xattr.user.x", b"x" * 9000)], block(b"big", size=len(BIG), content=BIG)) + END
    decode.layer(tar, gz(tar), GZIP, every=500_000)
    assert decode.checkpoints == []


def test_a_checkpoint_that_is_damaged(decode):
    """Whatever is in it: decode says no, or what comes is another layer, and the diff_id says so; and it lives."""
    blob = gz(BIG_TAR)
    decode.layer(BIG_TAR, blob, GZIP, every=1_000_000)
    good, rng = decode.checkpoints[1], random.Random("damage")
    refusals = 0
    for n in range(300):
        bad = bytearray(good.payload)
        for _ in range(rng.choice([1, 1, 8, 400])):
            bad[rng.randrange(CHECKPOINT_STRUCT.size, len(bad))] ^= 1 << rng.randrange(8)
        place = Checkpoint(bytes(bad), [Entry(bytes(HEAD.size))])
        place.at = good.at
        try:
            decode.layer(BIG_TAR, blob, GZIP, go_on=place)
        except Refused:
            refusals += 1
    assert refusals > 50, "the others hit what is not used: most of the room for headers, and much of the window"
    assert len(decode.layer(BIG_TAR, blob, GZIP, go_on=good)) == 2


def test_no_end_blocks_and_bytes_after_the_end_count(decode):
    assert len(decode.layer(block())) == 1
    assert len(decode.layer(block() + END + b"anything" * 100000)) == 1
    assert decode.layer(END) == []
    assert decode.layer(END * 10, gz(END * 10), GZIP) == []


def test_names_are_bytes(decode):
    nfd, nfc, latin = "e\u0301".encode(), "\u00e9".encode(), b"\xe4\xff"
    assert decode.layer(tar_of(info("\u00fc" * 60), format=tarfile.PAX_FORMAT))[0].path == "\u00fc".encode() * 60
    for name in (nfd, nfc, latin):
        got = decode.layer(block(name) + pax(line(b"path", name), block()) +
                           pax([line(b"linkpath", name)], block(b"l", b"2", link=b"x")) +
                           pax([line(b"linkpath", name)], block(b"h", b"1", link=b"x")))
        assert [e.path for e in got] == [name, name, b"l", b"h"]
        assert [e.target for e in got] == [b"", b"", name, name]


def test_an_umlaut_in_a_directory_of_an_old_tar(decode):
    got = decode.layer(pax(line(b"path", "\u00fc/".encode()), block()))
    assert [(e.path, e.node) for e in got] == [("\u00fc".encode(), DIR)]


@pytest.mark.parametrize("name,path", [("/abs", b"abs"), ("./a//b/./c", b"a/b/c"), ("d/../x", b"x")])
def test_lexical_names(decode, name, path):
    assert decode.layer(block(name.encode()))[0].path == path


def test_root_directory(decode):
    assert [(e.path, e.node) for e in decode.layer(block(b"./", b"5"))] == [(b"", DIR)]


def test_whiteouts(decode):
    got = decode.layer(tar_of(info("a/.wh.b"), info(".wh.c"), info("a/.wh..wh..opq"), info(".wh..wh..opq"),
                              info(".wh..wh.plnk", tarfile.DIRTYPE), info(".wh..wh.plnk/1.2"), info(".wh..wh.aufs")))
    assert [(e.type, e.path) for e in got] == [(WHITEOUT, b"a/b"), (WHITEOUT, b"c"), (OPAQUE, b"a"), (OPAQUE, b"")]


def test_times(decode):
    for text, want in ((b"1.25", (1, 250000000)), (b"-1.5", (-2, 500000000)), (b"-7", (-7, 0)),
                       (b"99999999999", (99999999999, 0)), (b"3.000000001", (3, 1))):
        e = decode.layer(pax(line(b"mtime", text), block()))[0]
        assert (e.mtime, e.ns) == want


def test_owners(decode):
    top = 2 ** 32 - 2
    e = decode.layer(tar_of(info("f", uid=top, gid=2 ** 31), format=tarfile.GNU_FORMAT))[0]
    assert (e.uid, e.gid) == (top, 2 ** 31)
    e = decode.layer(tar_of(info("f", uid=top, gid=2 ** 31), format=tarfile.PAX_FORMAT))[0]
    assert (e.uid, e.gid) == (top, 2 ** 31)


def test_xattrs(decode):
    cap = b"\1\0\0\2\0\4\0\0\0\0\n="
    e = decode.layer(pax([line(b"SCHILY.xattr.security.capability", cap), line(b"SCHILY.xattr.user.a", b""),
                          line(b"SCHILY.xattr.trusted.x", b"y")], block()))[0]
    assert e.xattrs == {b"security.capability": cap, b"trusted.x": b"y"}


def test_what_other_tools_do_not_read_is_ignored(decode):
    """Docker, containerd, umoci and c/storage read extended attributes from SCHILY.xattr alone. bsdtar writes each
    twice."""
    e = decode.layer(pax([line(b"LIBARCHIVE.xattr.user.a", b"eA"), line(b"SCHILY.xattr.user.a", b"x"),
                          line(b"LIBARCHIVE.xattr.user.b", b"eA"), line(b"RHT.security.selinux", b"label"),
                          line(b"SCHILY.acl.access", b"user::---,group::---,other::---"),
                          line(b"SCHILY.fflags", b"nodump"), line(b"comment", b"\xff\0")], block()))[0]
    assert (e.mode, e.xattrs) == (0o644, {b"user.a": b"x"})


def test_link_path_at_what_is_no_link_is_ignored(decode):
    e = decode.layer(pax(line(b"linkpath", b"f"), block(b"g")))[0]
    assert (e.path, e.type, e.node, e.target) == (b"g", NODE, FILE, b"")


def test_pax_header_at_every_place_of_a_block(decode):
    """The guard sees it in pieces."""
    tar = b"".join(pax([line(b"comment", b"c" * (i * 37 % 700)), line(b"size", b"5"), line(b"path", b"p%d" % i),
                        line(b"LIBARCHIVE.xattr.user.b", b"eA")], block(content=b"12345")) for i in range(60))
    for piece in (7, 511, 4099):
        got = decode.layer(tar, piece=piece)
        assert [(e.path, bytes(e.content), e.xattrs) for e in got] == [(b"p%d" % i, b"12345", {}) for i in range(60)]


def test_nul_is_a_regular_file_and_headers_of_v7(decode):
    got = decode.layer(block(kind=b"\0") + block(b"v7", magic=b"\0" * 8) + block(b"dir/", kind=b"\0", magic=b"\0" * 8))
    assert [(e.path, e.node) for e in got] == [(b"f", FILE), (b"v7", FILE), (b"dir", DIR)]


def test_global_header(decode):
    body = line(b"comment", b"x")
    assert len(decode.layer(block(b"g", b"g", len(body), content=body) + block())) == 1


def test_only_one_path(decode):
    tar = tar_of((info("a"), b"1"), (info("./x/disk.img"), BIG), (info("b"), b"2"))
    assert [e.path for e in decode.layer(tar, only=b"x/disk.img")] == [b"x/disk.img"]
    assert decode.layer(tar, only=b"none") == []


def test_alignment_of_blocks_does_not_matter(decode):
    """Headers at every place of a block, hard links (for which libarchive looks ahead) among them."""
    members = []
    for i in range(600):
        members.append((info("f%d" % i), b"z" * (i % 3 * 512)))
        members.append(info("h%d" % i, tarfile.LNKTYPE, linkname="f%d" % i))
    tar = tar_of(*members, format=tarfile.USTAR_FORMAT)
    assert len(decode.layer(tar, piece=777)) == len(members)


# --- what is refused -------------------------------------------------------------------------------------------------

BAD_TARS = [
    ("leaves the root", block(b"../x"), POLICY, "leaves the root"),
    ("leaves the root later", block(b"a/../../x"), POLICY, "leaves the root"),
    ("empty name", block(b""), POLICY, "empty"),
    ("file as root", block(b"./."), POLICY, ""),
    ("name of 256", pax(line(b"path", b"n" * 256), block()), LIMIT, "255"),
    ("path of 4096", pax(line(b"path", b"n/" * 2048 + b"nn"), block()), LIMIT, "4095"),
    ("whiteout of dotdot", block(b"a/.wh..."), POLICY, "whiteout"),
    ("whiteout of dot", block(b"a/.wh.."), POLICY, "whiteout"),
    ("whiteout of nothing", block(b"a/.wh."), POLICY, "whiteout"),
    ("directory as whiteout", block(b".wh.d/", b"5"), POLICY, "whiteout"),
    ("below a whiteout", block(b".wh.d/x"), POLICY, "whiteout"),
    ("opaque directory", block(b".wh..wh..opq", b"5"), POLICY, "whiteout"),
    ("hard link out", block(b"h", b"1", link=b"../../etc"), POLICY, "leaves the root"),
    ("hard link to nothing", block(b"h", b"1"), POLICY, ""),
    ("hard link to root", block(b"h", b"1", link=b"/"), POLICY, ""),
    ("hard link with size, ustar", block(b"h", b"1", 5, b"f", content=b"12345") + block(), POLICY, "hard link"),
    ("hard link with size, GNU", block(b"h", b"1", 5, b"f", magic=b"ustar  \0") + block(), POLICY, "hard link"),
    ("hard link with size, pax", pax(line(b"size", b"5"), block(b"h", b"1", link=b"f", content=b"12345")), POLICY,
     "hard link"),
    ("symlink to nothing", block(b"l", b"2"), POLICY, "target"),
    ("symlink target of 4096", pax(line(b"linkpath", b"n" * 4096), block(b"l", b"2")), POLICY, "target"),
    ("directory with content", pax(line(b"size", b"512"), block(b"d", b"5", content=b"x" * 512)), POLICY, "content"),
    ("file with a slash and content", block(b"f/", b"0", 512, content=block(b"smuggled")), POLICY, "content"),
    ("device 0:0", block(b"d", b"3", device=b"0000000\0" * 2), POLICY, "0:0"),
    ("device number", pax(line(b"SCHILY.devmajor", b"4294967301"), block(b"d", b"3", device=b"0000001\0" * 2)),
     POLICY, "device"),
    ("type 7", block(kind=b"7"), POLICY, "type"),
    ("type A", block(kind=b"A"), POLICY, "type"),
    ("type D", block(kind=b"D", magic=b"ustar  \0"), POLICY, "type"),
    ("type N", block(kind=b"N", magic=b"ustar  \0"), POLICY, "type"),
    ("type V", block(kind=b"V", magic=b"ustar  \0") + block(), POLICY, "type"),
    ("type X", block(kind=b"X") + block(), POLICY, "type"),
    ("type M", block(kind=b"M"), POLICY, "type"),
    ("type S", block(kind=b"S", magic=b"ustar  \0"), POLICY, "type"),
    ("type Z", block(kind=b"Z"), POLICY, "type"),
    ("uid -1", block(uid=b"\xff" * 8), POLICY, "owner"),
    ("uid -1, pax", pax(line(b"uid", b"-1"), block()), POLICY, "owner"),
    ("uid 2^32-1", pax(line(b"uid", b"4294967295"), block()), POLICY, "owner"),
    ("negative size", block(size_field=b"\xff" * 12), FORMAT, "negative"),
    ("overlay attribute", pax(line(b"SCHILY.xattr.trusted.overlay.opaque", b"y"), block()), POLICY, "trusted.overlay"),
    ("foreign attribute", pax(line(b"SCHILY.xattr.com.apple.x", b"y"), block()), POLICY, "com.apple"),
    ("attribute without a name", pax(line(b"SCHILY.xattr.user.", b"y"), block()), POLICY, "attribute"),
    ("large attributes", pax([line(b"SCHILY.xattr.user.%d" % i, b"v" * 30000) for i in range(3)], block()), LIMIT,
     "attributes"),
    ("shorter than declared", block(size=5000)[:512] + b"x" * 100, FORMAT, ""),
    ("header cut", block()[:300], FORMAT, ""),
    ("bad checksum", block().replace(b"0000644", b"0000645"), FORMAT, ""),
    ("bad checksum later", block() + block(b"g").replace(b"0000644", b"0000645") + block(b"h"), FORMAT, ""),
    ("bad pax record", pax(b"xx path=a\n", block()), FORMAT, ""),
    ("no tar", os.urandom(4096), FORMAT, ""),
    ("0 bytes", b"", FORMAT, ""),
    ("sparse 1.0", pax([line(b"GNU.sparse.major", b"1"), line(b"GNU.sparse.minor", b"0"),
                        line(b"GNU.sparse.name", b"f"), line(b"GNU.sparse.realsize", b"8192")],
                       block(size=512, content=b"1\n0\n512\n")), POLICY, "sparse"),
    ("sparse, star", pax(line(b"SCHILY.realsize", b"5"), block()), POLICY, "sparse"),
    ("NUL in a name", pax(line(b"path", b"a\0b"), block()), POLICY, "NUL"),
    ("NUL in a link path", pax(line(b"linkpath", b"a\0b"), block(b"l", b"2")), POLICY, "NUL"),
    ("attribute twice", pax([line(b"SCHILY.xattr.user.a", b"x"), line(b"SCHILY.xattr.user.a", b"y")], block()), POLICY,
     "twice"),
    ("pax record beyond its header", pax(b"30 path=a\n", block()), FORMAT, "pax"),
    ("pax record of no length", pax(b"2 \n", block()), FORMAT, "pax"),
    ("pax record without a key", pax(b"5 ab\n", block()), FORMAT, "pax"),
    ("pax size negative", pax(line(b"size", b"-1"), block()), FORMAT, "size"),
    ("pax size beyond all", pax(line(b"size", b"9" * 30), block()), FORMAT, "size"),
    ("pax header of 2 MB", pax(line(b"comment", b"c" * 500000) * 4, block()), LIMIT, "1048576"),
    ("symlink with content", pax(line(b"size", b"512"), block(b"l", b"2", link=b"x", content=b"x" * 512)), POLICY,
     "content"),
    ("sparse 0.1", pax([line(b"GNU.sparse.size", b"8192"), line(b"GNU.sparse.numblocks", b"1"),
                        line(b"GNU.sparse.map", b"4096,512")], block(size=512, content=b"x" * 512)), POLICY, ""),
]


@pytest.mark.parametrize("tar,code,words", [b[1:] for b in BAD_TARS], ids=[b[0] for b in BAD_TARS])
def test_bad_tar(decode, tar, code, words):
    refused(decode, tar, code, words)
    refused(decode, tar, code, words, blob=gz(tar), codec=GZIP) if tar else None


def cases_of_codecs():
    for name, codec, pack in (("gzip", GZIP, gz), ("zstd", ZSTD, zst), ("lz4", LZ4, lz)):
        yield name + ": 0 bytes", codec, lambda t: b""
        yield name + ": cut", codec, lambda t, p=pack: p(t)[:100000]
        yield name + ": cut in the checksum", codec, lambda t, p=pack: p(t)[:-1]
        yield name + ": cut in the second", codec, lambda t, p=pack: p(t) + p(t)[:50]
        yield name + ": one byte of a second", codec, lambda t, p=pack: p(t) + p(t)[:1]
        yield name + ": zeros after", codec, lambda t, p=pack: p(t) + b"\0" * 512
        yield name + ": bytes after", codec, lambda t, p=pack: p(t) + b"tail"
        yield name + ": plain tar", codec, lambda t: t
        yield name + ": changed byte", codec, lambda t, p=pack: flip(p(t), 1000)
        yield name + ": changed checksum", codec, lambda t, p=pack: flip(p(t), -5 if p is gz else -2)
    yield "none: gzip inside", NONE, gz
    yield "lz4: legacy", LZ4, tool("lz4", "-clq")


def flip(data, at):
    data = bytearray(data)
    data[at] ^= 0x55
    return bytes(data)


@pytest.mark.parametrize("name,codec,pack", cases_of_codecs(), ids=[c[0] for c in cases_of_codecs()])
def test_bad_stream(decode, name, codec, pack):
    refused(decode, BIG_TAR, FORMAT, blob=pack(BIG_TAR), codec=codec)


def test_wrong_media_says_what_came(decode):
    refused(decode, BIG_TAR, FORMAT, "gzip", blob=BIG_TAR, codec=GZIP)
    refused(decode, BIG_TAR, FORMAT, "zstd", blob=BIG_TAR, codec=ZSTD)


@pytest.mark.parametrize("log", [24, 27])
def test_zstd_window(decode, log):
    tar = tar_of((info("f"), bytes(40_000_000)))
    blob = tool("zstd", "-cq", "--long=%d" % log)(tar)
    refused(decode, tar, LIMIT, "%d KB, this build takes 8192 KB" % (2 ** log // 1024), blob=blob, codec=ZSTD)
    blob = tool("zstd", "-cq", "--long=23")(tar)
    assert len(decode.layer(tar, blob, ZSTD)) == 1


def test_codecs_share_the_memory(limited):
    """One after the other in one process: a large window must not stay when lz4's large blocks come."""
    tar = tar_of((info("f"), os.urandom(9_000_000)))
    for codec, pack in 2 * [(ZSTD, tool("zstd", "-3", "--long=23", "-cq")), (LZ4, tool("lz4", "-B7", "-cq"))]:
        assert len(limited.layer(tar, pack(tar), codec)) == 1


def test_unknown_codec(decode):
    refused(decode, BIG_TAR, UNSUPPORTED, codec=77)


def test_wrong_diff_id(decode):
    refused(decode, BIG_TAR, DIGEST, "diff_id mismatch: want sha256:00", diff_id=bytes(32))


def test_bomb(decode):
    tar = tar_of((info("f"), bytes(50_000_000)))
    refused(decode, tar, SPACE, blob=gz(tar), codec=GZIP, content_max=1_000_000)
    refused(decode, pax(line(b"size", b"%d" % (1 << 40)), block()), SPACE, "1099511627776 bytes, the slot has 1000000",
            content_max=1_000_000)


def test_size_of_the_blob(decode):
    refused(decode, BIG_TAR, SIZE, size=len(BIG_TAR) - 1)
    refused(decode, BIG_TAR, SIZE, size=len(BIG_TAR) + 1)


def test_manifest_too_large_or_no_json(decode):
    for text in (b"{" * 300 * 1024, b"no json"):
        with pytest.raises(Refused):
            decode.document(text)


def reseal(head):
    """A header's checksum, made right again."""
    head = head[:148] + b" " * 8 + head[156:]
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def test_mutated_headers(decode):
    """Whatever stands in the headers: an answer, and entries that stage can take."""
    gnu = b"ustar  \0"
    tar = b"".join([
        block(b"d/", b"5"), block(b"d/f", size=700, content=b"f" * 700), block(b"h", b"1", link=b"d/f"),
        block(b"././@LongLink", b"L", 151, magic=gnu, content=b"l" * 150 + b"\0"),
        block(b"././@LongLink", b"K", 151, magic=gnu, content=b"t" * 150 + b"\0"), block(b"l", b"2", link=b"t", magic=gnu),
        pax([line(b"SCHILY.xattr.user.a", b"v" * 50), line(b"mtime", b"-1.5"), line(b"path", b"p/q")],
            block(size=1, content=b"x")),
        pax([line(b"size", b"9"), line(b"LIBARCHIVE.xattr.user.a", b"eA")], block(b"s", content=b"123456789")),
        block(b"dev", b"3", device=b"0000001\0" * 2), block(b"a/.wh.b"), block(b"last"), END])
    heads = [at for at in range(0, len(tar), 512) if tar[at + 257:at + 262] == b"ustar"]
    assert len(heads) > 10
    pick = random.Random(1)
    taken, refusals = 0, set()
    for _ in range(1500):
        changed = bytearray(tar)
        at = pick.choice(heads)
        for _ in range(pick.randint(1, 3)):
            changed[at + pick.choice([pick.randrange(512), pick.randrange(100, 160), 512 + pick.randrange(60)])] = (
                pick.choice([0, 32, 47, 48, 49, 0x80, 0xff, pick.randrange(256)]))
        changed[at:at + 512] = reseal(bytes(changed[at:at + 512]))
        try:
            for e in decode.layer(bytes(changed), piece=4096, content_max=1 << 20):
                parts = e.path.split(b"/") if e.path else []
                assert not {b"", b".", b".."} & set(parts) and b"\0" not in e.path
                assert len(e.content) == e.size and e.mode <= 0o7777
            taken += 1
        except Refused as r:
            assert r.code in (FORMAT, LIMIT, POLICY, SPACE), r
            refusals.add(r.text)
    assert taken > 300 and len(refusals) > 20, "both happen"
