"""The same kills done to what others run: Kamailio for the browsers, and rtpengine, which keeps its
calls in Redis and reads them again when it is started."""

import pathlib
import subprocess
import time

import rig
from common import NG_PING, is_answered, is_open, until

REDIS, NG = 6390, ("127.0.0.1", 2224)


def spawn(*command, **more):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | more
    return subprocess.Popen(["nice", "-n", "-10", *map(str, command)], **quiet)


class Beside:
    """Redis, rtpengine and Kamailio in a folder; rtpengine is what is killed."""

    def __init__(self, folder):
        self.folder = folder
        own = pathlib.Path(__file__).with_name("beside.cfg")
        self.redis = spawn("redis-server", "--port", REDIS, "--bind", "127.0.0.1", "--save", "",
                           "--appendonly", "no", "--dir", folder)  # fmt: skip
        self.engine = None
        self.start()
        self.wait()
        command = ["kamailio", "-DD", "-E", "-f", own, "-Y", folder, "-M", "8", "-m", "256"]
        self.kamailio = spawn(*command, stderr=open(folder / "kamailio.log", "w"))
        until("Kamailio listens", lambda: is_open(8090))

    def start(self):
        self.engine = spawn(
            "rtpengine", f"--interface={rig.PUBLIC}", f"--listen-ng={NG[0]}:{NG[1]}", "--table=-1",
            "--foreground", "--log-stderr", "--log-level=4", "--port-min=20000", "--port-max=29999",
            f"--redis=127.0.0.1:{REDIS}/1", f"--pidfile={self.folder}/rtpengine.pid",
            "--delete-delay=0", stderr=open(self.folder / "rtpengine.log", "a"),
        )  # fmt: skip

    def wait(self, patience=20):
        end = time.time() + patience
        while not is_answered(NG, NG_PING):
            if time.time() > end or self.engine.poll() is not None:
                raise RuntimeError((self.folder / "rtpengine.log").read_text()[-1500:])
            time.sleep(0.05)

    def restart(self):
        """kill -9, and what a supervisor does at once."""
        self.engine.kill()
        self.engine.wait()
        self.start()
        self.wait()

    def close(self):
        for process in (self.kamailio, self.engine, self.redis):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def silences(found):
    """Those of the ends that have heard the other, in ms."""
    ends = {"browser": found["phones"], "trunk": found["trunk"]}
    return {
        name: [call["gap"] for call in end.values() if call["gap"] is not None]
        for name, end in ends.items()
    }


def beside(run):
    """20 times `kill -9` of rtpengine; its calls are read from Redis again."""
    phones, times = run.pick(198, 48), run.pick(20, 5)
    folder = run.work / "beside"
    folder.mkdir()
    peer, told = Beside(folder), None
    try:
        told = rig.Told(rig.TELEPHONES)
        began = told.ask("call", phones)
        if not began["talking"]:
            names = ("kamailio.log", "rtpengine.log")
            logs = [(folder / name).read_text(errors="replace") for name in names]
            lines = [line for log in logs for line in log.splitlines() if "pars" not in line]
            raise RuntimeError("\n".join([str(began["states"]), *lines[-20:]]))
        time.sleep(2)
        told.ask("gaps")
        heard = []
        for _ in range(times):
            peer.restart()
            time.sleep(4)
            heard.append(silences(told.ask("gaps")))
        # Who hears the other without a break of a second from here on goes on.
        told.ask("gaps")
        time.sleep(5)
        last = silences(told.ask("gaps"))
        hears = {end: sum(gap < 1_000 for gap in last[end]) for end in last}
        run.report.beside(
            f"the same beside us: {times} × `kill -9` of rtpengine with Redis, Kamailio for SIP",
            (began["talking"], phones), hears, heard,
        )  # fmt: skip
    finally:
        if told:
            told.close()
        peer.close()
