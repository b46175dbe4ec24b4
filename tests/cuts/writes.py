"""What an emulated board writes to its card, in order: QEMU's blklogwrites, the format of the kernel's dm-log-writes.

    record = Writes(folder / "writes.log")
    record.attach(board)
    ...                         # run, then board.qmp("quit")
    for write in record: ...    # write.at and write.data: bytes
"""
import collections
import os
import struct

MAGIC = 0x6a736677736872
DISCARD = 4
PLAIN = "format=raw,file=disk.img"  # as image.conf has the card
LOG_BYTES = 8 << 30  # sparse

Write = collections.namedtuple("Write", "at data")


class Writes:
    def __init__(self, path):
        self.path = path
        with open(path, "wb") as file:
            os.truncate(file.fileno(), LOG_BYTES)

    def attach(self, board):
        """From the board's next start on."""
        logged = (f"driver=blklogwrites,file.driver=raw,file.file.driver=file,file.file.filename={board.disk},"
                  f"log.driver=raw,log.file.driver=file,log.file.filename={self.path}")
        assert any(PLAIN in option for option in board.machine), board.machine
        board.machine = [option.replace(PLAIN, logged) for option in board.machine]

    def __iter__(self):
        with open(self.path, "rb") as log:
            magic, _, _, size = struct.unpack("<QQQI", log.read(28))
            if magic != MAGIC:
                raise ValueError(f"{self.path}: no log of writes")
            log.seek(size)
            # The number of entries in the head lags behind. Behind the last one there are zeros.
            while (entry := struct.unpack("<QQQQ", log.read(size)[:32]))[1:3] != (0, 0):
                sector, sectors, flags, _ = entry
                data = b"" if flags & DISCARD else log.read(sectors * size)
                yield Write(sector * size, data)
