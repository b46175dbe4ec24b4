"""The card of an emulated board, looked at from outside while it is off."""
import json
import pathlib
import struct
import subprocess
import tempfile
import zlib


class CardError(Exception):
    """What is on the card is not what must be there."""


STATE_MAGIC = 0x74735753  # agent/FORMAT.md, "State"


class Card:
    ENV = (0x100000, 0x110000, 0x4000)

    def __init__(self, path):
        self.path = pathlib.Path(path)
        table = json.loads(subprocess.run(["sfdisk", "-J", self.path], check=True, stdout=subprocess.PIPE).stdout)
        self.parts = {p["name"]: (p["start"] * 512, p["size"] * 512) for p in table["partitiontable"]["partitions"]}

    def check_slot(self, name):
        """The slot's filesystem is whole; one that runs is mounted read-only, so not even its journal has anything."""
        offset, _ = self.parts[f"slot-{name.lower()}"]
        done = subprocess.run(["e2fsck", "-fn", f"{self.path}?offset={offset}"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise CardError(f"slot {name}: e2fsck ended with {done.returncode}: {done.stdout}")

    def environment(self):
        """U-Boot's variables, as fw_printenv reads them."""
        with tempfile.NamedTemporaryFile("w", suffix=".config") as config:
            for offset in self.ENV[:2]:
                config.write(f"{self.path} {offset:#x} {self.ENV[2]:#x}\n")
            config.flush()
            text = subprocess.run(["fw_printenv", "-c", config.name], check=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True).stdout
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def next_slot(self):
        """What boards/common/boot.cmd would start."""
        env = self.environment()
        for name in env.get("BOOT_ORDER", "A B").split():
            if int(env.get(f"BOOT_{name}_LEFT", "3")) > 0:
                return name
        return env.get("BOOT_ORDER", "A B").split()[0]

    def trial(self):
        """The slot that the agent's state has on trial, None for none."""
        newest = (-1, 0)
        with tempfile.TemporaryDirectory() as folder:
            self._extract("data", f"{folder}/data")
            # the board's kernel would replay the journal, too
            if subprocess.run(["e2fsck", "-p", f"{folder}/data"], stdout=subprocess.DEVNULL, check=False).returncode > 1:
                raise CardError("the data partition can't be mounted")
            for copy in range(2):
                subprocess.run(["debugfs", "-R", f"dump /slipway/state.{copy} {folder}/record", f"{folder}/data"],
                               check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                newest = max(newest, self._record(pathlib.Path(f"{folder}/record")))
        return {0: None, 1: "A", 2: "B"}[newest[1]]

    @staticmethod
    def _record(path):
        """(sequence, slot on trial) of a good copy of the record."""
        data = path.read_bytes() if path.exists() else b""
        path.unlink(missing_ok=True)
        if len(data) < 24:
            return (-1, 0)
        magic, _, _, length, sequence, crc = struct.unpack("<IHHIII", data[:20])
        if magic != STATE_MAGIC or zlib.crc32(data[:16] + data[20:20 + length]) != crc:
            return (-1, 0)
        return (sequence, struct.unpack("<I", data[20:24])[0])

    def _extract(self, name, to):
        offset, size = self.parts[name]
        subprocess.run(["dd", f"if={self.path}", f"of={to}", "bs=1M", "iflag=skip_bytes,count_bytes", f"skip={offset}",
                        f"count={size}", "conv=sparse", "status=none"], check=True)
