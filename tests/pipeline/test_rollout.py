"""A version that spreads by itself: signed annotations say when and to how many, each board finds its own turn. What a board's
place is, is computed here anew."""
import datetime
import hashlib
import hmac
import time

import pytest

from relink import relink
from test_plan import plan
from test_trust import Board, fixture_keys, fixture_works, push  # noqa: F401

PREFIX = "dev.slipway.rollout."


def rolled(works, keys, version, number, **rollout):
    """The tag moves to an image with these annotations, signed."""
    works.sign(push(works, version, annotations={PREFIX + key: value for key, value in rollout.items()}), keys["a"], version=number)


def place(board, salt):
    """From 0 to 1."""
    said = hmac.new(salt.encode(), board.status()["device_id"].encode(), hashlib.sha256).digest()
    return int.from_bytes(said[:4], "big") / 2 ** 32


def salt_for(board, low, high):
    """One by which the board's place lies between."""
    return next(salt for salt in map(str, range(10_000)) if low <= place(board, salt) < high)


def after(seconds):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def waits(board, *words):
    return board.wait(lambda s: all(word in s["update"]["detail"] for word in words), 20, f"to wait: {words}")


def test_its_turn(works, keys):
    with Board(works, [keys["a"]], update={"poll_interval": 1}) as board:
        salt = salt_for(board, 0.4, 0.6)
        began, start = time.time(), after(4)
        rolled(works, keys, "v1", 1, start=start, ramp="20s", salt=salt)
        turn = datetime.datetime.fromisoformat(start.replace("Z", "+00:00")).timestamp() + 20 * place(board, salt)
        status = waits(board, "rollout", f"{int(10_000 * place(board, salt)) / 100:.2f} %", "its turn is at ")
        assert abs(status["update"]["waits_until_s"] - turn) <= 2 and status["last_failure"] is None
        board.wait(lambda s: s["update"]["state"] == "installing" or s["booted"] == "B", 30)
        assert -1 < time.time() - turn < 6, "whole seconds, poll_interval, and a little"
        assert time.time() > began + 4
        board.wait_version("v1", 20)


def test_asked_for(works, keys):
    """A plan tells of the turn; a person does not wait for it."""
    with Board(works, [keys["a"]]) as board:
        rolled(works, keys, "v1", 1, start=after(3600))
        said = plan(board)
        assert "rollout" in said["waiting"] and said["cost"]["layers"]["all"] == 1
        assert board.status()["booted"] == "A"
        board.installs("v1")


def test_not_for_this_one(works, keys):
    """Beyond the most, or of another channel: for ever, until the tag moves."""
    with Board(works, [keys["a"]], update={"poll_interval": 1, "channel": "beta"}) as board:
        salt = salt_for(board, 0.2, 0.9)
        rolled(works, keys, "v1", 1, max="10", salt=salt)
        assert waits(board, "rollout", "for 10 %")["update"]["waits_until_s"] is None
        rolled(works, keys, "v1", 1, channels="edge, stable")
        waits(board, "channel edge, stable", "of beta")
        assert board.status()["booted"] == "A"
        rolled(works, keys, "v1", 1, max="95", salt=salt, channels="beta")
        board.wait_version("v1", 20)


def test_waiting_costs_a_poll(works, keys):
    """What the tag's image says is not asked for again as long as it is the same."""
    with Board(works, [keys["a"]], update={"poll_interval": 1}) as board:
        rolled(works, keys, "v1", 1, start=after(3600))
        waits(board, "rollout")
        time.sleep(4)
        assert (board.dir / "agentd.log").read_text().count("waiting: rollout") == 1, "each time that stage looked into it"
        assert board.status()["update"]["last_poll_s"] > time.time() - 3


@pytest.mark.parametrize("key, value, words", [
    ("start", "tomorrow", "start: want a time as in"), ("ramp", "1 day", "ramp: want a time as in"), ("ramp", "1h", "ramp: want a start"), ("max", "0", "max: want percent"),
    ("max", "101", "max: want percent"), ("max", "ten", "max: want percent"), ("salt", "x" * 64, "salt is longer than 63"),
    ("channels", "c" * 128, "channels is longer than 127")])
def test_wrong(key, value, words, works, keys):
    rolled(works, keys, "v1", 1, **{key: value})
    with Board(works, [keys["a"]]) as board:
        board.refuses("limit" if "longer" in words else "format", f"annotations: {PREFIX}{words}")


def test_an_agent_that_does_not_wait(works, keys, tmp_path):
    """Known-bad: to it, it is always its turn."""
    program = relink(tmp_path, "agent/base/rollout.c", "rollout_turn", """
        #include "base/rollout.h"
        int rollout_turn(const struct rollout *r, const char *version, const char *device_id, const char *channel,
                         int64_t now_s, struct err *e)
        {
            (void)r, (void)version, (void)device_id, (void)channel, (void)now_s, (void)e;
            return 0;
        }
        """)
    rolled(works, keys, "v1", 1, start=after(3600))
    with Board(works, [keys["a"]], update={"poll_interval": 1}, program=program) as board:
        board.wait_version("v1", 20)


# --- nothing but the manifest is new -----------------------------------------------------------------------------------


def again(works, keys, number, **rollout):
    """The same image as v1, under another manifest."""
    rolled(works, keys, "v1", number, **rollout)


def test_another_manifest_of_what_runs(works, keys):
    """Nobody is rebooted, and nothing is written; the version that it is signed with counts from now on."""
    rolled(works, keys, "v1", 1)
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")
        pid, before = board.process.pid, board.status()
        again(works, keys, 5, max="30")
        assert plan(board)["current"]
        board.ask()
        status = board.wait(lambda s: s["slots"][1]["digest"] == s["follow"]["digest"] != before["follow"]["digest"], 20)
        assert status["booted"] == "B" and status["last_failure"] is None and board.process.pid == pid
        assert {**status["flash"], "state_writes": 0} == {**before["flash"], "state_writes": 0}
        assert "adopted" in board.agentctl("history")

        rolled(works, keys, "v2", 4)
        assert "older than 5" in board.refuses("older")


def test_another_manifest_of_what_failed(works, keys):
    """It would fail again: that is not tried without a person."""
    with Board(works, [keys["a"]], update={"poll_interval": 1}) as board:
        works.sign(push(works, "bad", Entrypoint=["/none"]), keys["a"], version=1)
        board.wait(lambda s: s["last_failure"] and s["booted"] == "A", 60)
        works.sign(push(works, "bad", Entrypoint=["/none"], annotations={PREFIX + "max": "100"}), keys["a"], version=1)
        waits(board, "failed its trial here, with another manifest")
        works.sign(push(works, "good"), keys["a"], version=2)
        board.wait_version("good", 20)
