"""What suites of real programs share: programs that end, waiting, clocks."""

import contextlib
import pathlib
import socket
import subprocess
import sys
import time


def until(what, holds, seconds=20):
    """Waits until `holds` returns something, and returns that."""
    end = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def is_answered(address, question):
    """Whether somebody answers this datagram, as rtpengine its control port."""
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as asks:
        asks.settimeout(0.2)
        asks.sendto(question, address)
        return bool(asks.recv(1_000))
    return False


# What rtpengine answers with a pong. Kamailio asks it once as it starts, and passes over one that
# does not answer for a minute: start it once this is answered.
NG_PING = b"1 d7:command4:pinge"


def until_serving(node, log):
    """Waits until the gateway that writes this log has come up; prints the log if it does not."""
    end = time.monotonic() + 15
    while "serves the page" not in log.read_text():
        if node.poll() is not None or time.monotonic() > end:
            sys.exit(log.read_text())
        time.sleep(0.1)


def passes(suite, name, body):
    """Runs a case and prints how it went; returns whether it passed."""
    began = time.monotonic()
    try:
        body()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the case's failure)
        print(f"FAILED  {suite}: {name}: {type(error).__name__} {error}", flush=True)
        return False
    print(f"ok      {suite}: {name} ({time.monotonic() - began:.1f} s)", flush=True)
    return True


@contextlib.contextmanager
def running(words, log, **more):
    """A program, ended by its id; what it prints is added to `log`."""
    with log.open("a") as out:
        child = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, **more)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def clock_of(file):
    """The environment of a program whose wall clock, and no other, is as `file` says."""
    library = next(iter(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        raise AssertionError("libfaketime is not installed: interop/setup.sh installs it")
    file.write_text("+0")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
