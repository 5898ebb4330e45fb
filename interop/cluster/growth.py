#!/usr/bin/env python3
"""What a registration and a call cost three nodes and Redis, as a table of n against cost: bytes on
the nodes and in the store, operations and CPU of a REGISTER; CPU of a call on one node and of one
across two, and how much longer its set-up takes. Then the same registrations with three Kamailios
that share their location (dmq_usrloc), and the ratios.
  interop/run.sh growth [REGISTRATIONS…]      a column for each number; 1000 and 10000 otherwise
Where there are more than files of a process, each connection has as many lines as it takes.
"""

import asyncio
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from browsers import Browser, Crowd, all_files, each, frame, stay  # noqa: E402
from common import is_open, running, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
CORPUS = ROOT / "tests/corpus/chromium"
OFFER = (CORPUS / "loop_audio_full.sdp").read_text()
ANSWER = (CORPUS / "answer-opus.sdp").read_text()
NAME, REDIS = "calls.example.com", 6441
WEB = {"a": 8401, "b": 8402, "c": 8403}
# Browsers that connect at once; those of one address, as its ports end.
AT_ONCE, OF_ONE_ADDRESS = 100, 20_000
# Calls of each kind that are measured, and pairs of phones that make them in turn.
CALLS, PAIRS = 400, 8


# ---- the servers


def webtrunk(folder, node, browsers):
    home = folder / node
    (home / "dialplans").mkdir(parents=True)
    users = [f"u{n}" for n in range(browsers)] + [f"phone{n}" for n in range(3 * PAIRS)]
    (home / "dialplans/phones.toml").write_text(
        "".join(
            f'[[route]]\nname = "{name}"\nmatch = "{name}"\ndo = [{{ ring = ["user:{name}"] }}]\n'
            for name in users[browsers:]
        )
    )
    ports = 30000 + 5000 * "abc".index(node)
    (home / "webtrunk.toml").write_text(
        f'[server]\ndomain = "{NAME}"\npublic_ip = "127.0.0.1"\n'
        f'[web]\nlisten = "127.0.0.1:{WEB[node]}"\npublic_url = "http://{NAME}"\n'
        f'[media]\nbrowser_port = 0\nworkers = 1\nports = "{ports}-{ports + 4999}"\n'
        f'[api]\ncontrol = "c.sock"\n'
        "[limits]\nconnections = 65536\nconnections_per_source = 65536\n"
        "new_calls_per_second = 1000\nnew_calls_per_second_per_user = 50\n"
        f'[cluster]\nnode = "{node}"\nstore = "redis://127.0.0.1:{REDIS}"\n'
        f'listen = "127.0.0.1:{WEB[node] + 1000}"\n'
        'key = "a key of the whole cluster, for a test only"\n'
        + "".join(f'[user.{name}]\npassword = "secret"\ncontext = "phones"\n' for name in users)
    )
    return [BINARY, "serve", "--log", "text", "-c", str(home / "webtrunk.toml")]


def kamailio(folder, node):
    text = (ROOT / "interop/kamailio/location.cfg").read_text()
    dmq = {name: port + 1000 for name, port in WEB.items()}
    # Each is told of another; from there they find one another.
    first = dmq["b"] if node == "a" else dmq["a"]
    own = {"WEB": WEB[node], "DMQ": dmq[node], "CONTROL": folder / f"{node}.ctl"}
    for name, value in {**own, "FIRST": first, "DOMAIN": NAME}.items():
        text = text.replace(f"@{name}@", str(value))
    file = folder / f"{node}.cfg"
    file.write_text(text)
    memory = ["-m", "4096", "-M", "16"]
    return ["kamailio", "-f", str(file), "-DD", "-E", *memory, "-w", "/tmp", "-Y", str(folder)]


def known_to(folder, node):
    """How many contacts a Kamailio has, its own and those it was told of."""
    words = ["kamcmd", "-s", f"unix:{folder}/{node}.ctl", "stats.get_statistics", "all"]
    said = subprocess.run(words, capture_output=True, text=True).stdout
    found = re.search(r"location.contacts = (\d+)", said)
    return int(found[1]) if found else 0


def family(pid):
    """A process and all that came of it."""
    found = [pid]
    for one in found:
        for thread in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in thread.read_text().split()]
    return found


def cpu(children):
    """Seconds of CPU so far, as the scheduler counts them."""
    total = 0
    for pid in (pid for child in children for pid in family(child.pid)):
        for thread in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(thread.read_text().split()[0])
    return total / 1e9


def memory(children):
    """Bytes, what processes share counted once."""
    total = 0
    for pid in (pid for child in children for pid in family(child.pid)):
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024
    return total


def redis(*words):
    done = subprocess.run(["redis-cli", "-p", str(REDIS), *words], capture_output=True, text=True)
    return done.stdout


def redis_memory():
    return int(re.search(r"used_memory:(\d+)", redis("INFO", "memory"))[1])


def redis_operations():
    """What users' pointers cost: the lease's script is one operation of each node and second."""
    stats = redis("INFO", "commandstats")
    found = dict(re.findall(r"cmdstat_(hset|pexpire|hdel):calls=(\d+)", stats))
    # The script renews what calls it has by a PEXPIRE of its own, once for each beat.
    beats = re.search(r"cmdstat_eval:calls=(\d+)", stats)
    return sum(int(n) for n in found.values()) - (int(beats[1]) if beats else 0)


# ---- the browsers


class Phone(Browser):
    """A browser that calls, or takes every call, and says how long it took."""

    def __init__(self, user):
        super().__init__(NAME, user, "secret")
        self.answers, self.task, self.number = {}, None, 0

    async def come(self, node):
        await self.connect(WEB[node])
        await self.register()
        self.task = asyncio.create_task(self.listen())

    def send(self, text):
        self.writer.write(frame(text))

    async def listen(self):
        with contextlib.suppress(ConnectionError, EOFError, asyncio.CancelledError):
            while True:
                text = await self.message()
                method = text.split(" ", 1)[0]
                if method == "SIP/2.0":
                    self.heard(text)
                elif method == "INVITE":
                    self.send(reply(text, self.user, "200 OK", ANSWER))
                elif method != "ACK":
                    self.send(reply(text, self.user, "200 OK", ""))

    def heard(self, text):
        status, call = int(text[8:11]), header(text, "Call-ID")
        waiting = self.answers.get(call)
        if waiting and status >= 200 and not waiting.done():
            waiting.set_result(text)

    def request(self, method, to, call, cseq, dialog=""):
        uri = f"sip:{to}@{NAME}"
        own = f"sip:{self.user}@{NAME}"
        tag = "" if method == "INVITE" else header(dialog, "To")
        target = (
            uri if method == "INVITE" else re.search(r"<([^>]*)>", header(dialog, "Contact"))[1]
        )
        body = OFFER if method == "INVITE" else ""
        kind = "Content-Type: application/sdp\r\n" if body else ""
        self.number += 1
        routes = "" if not dialog else "".join(
            f"Route: {r}\r\n" for r in reversed(headers(dialog, "Record-Route"))
        )  # fmt: skip
        return (
            f"{method} {target} SIP/2.0\r\n"
            f"Via: SIP/2.0/WS x.invalid;branch=z9hG4bK{self.call_id}{call}{self.number}\r\n"
            f"{routes}Max-Forwards: 70\r\nFrom: <{own}>;tag={call}\r\nTo: {tag or f'<{uri}>'}\r\n"
            f"Call-ID: {call}\r\nCSeq: {cseq} {method}\r\n"
            f"Contact: <sip:{self.user}@x.invalid;transport=ws>\r\n{kind}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )

    async def final(self, text, call):
        self.answers[call] = asyncio.get_running_loop().create_future()
        self.send(text)
        return await asyncio.wait_for(self.answers[call], 10)

    async def call(self, to, number):
        """Calls, and hangs up; returns the milliseconds until the answer."""
        call = f"{self.call_id}c{number}"
        began = time.perf_counter()
        said = await self.final(self.request("INVITE", to, call, 1), call)
        took = (time.perf_counter() - began) * 1e3
        if not said.startswith("SIP/2.0 200"):
            raise AssertionError(f"{self.user} to {to}: {said}")
        self.send(self.request("ACK", to, call, 1, said))
        await self.final(self.request("BYE", to, call, 2, said), call)
        del self.answers[call]
        return took

    def close(self):
        if self.task:
            self.task.cancel()
        super().close()


def headers(text, name):
    return re.findall(rf"^{name}: ?(.*?)\r$", text, re.M | re.I)


def header(text, name):
    return headers(text, name)[0]


def reply(request, user, status, body):
    copied = "".join(
        f"{name}: {value}\r\n"
        for name in ("Via", "Record-Route")
        for value in headers(request, name)
    )
    to = header(request, "To")
    to = to if ";tag=" in to else f"{to};tag={user}"
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"SIP/2.0 {status}\r\n{copied}From: {header(request, 'From')}\r\nTo: {to}\r\n"
        f"Call-ID: {header(request, 'Call-ID')}\r\nCSeq: {header(request, 'CSeq')}\r\n"
        f"Contact: <sip:{user}@x.invalid;transport=ws>\r\n{kind}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def most_connections():
    """How many the three nodes hold, whose processes may open so many files."""
    return len(WEB) * (all_files() - 1_000)


def lines_each(count):
    """How many users register over each connection, for that many to fit."""
    return -(-count // most_connections())


def browsers_of(node, count):
    """What a process with a node's third of the browsers does, step by step. A browser is one or
    more lines on one connection."""

    async def work(_, step):
        mine = list(range(list(WEB).index(node), count, len(WEB)))
        lines = lines_each(count)
        browsers = [
            (n, [Browser(NAME, f"u{user}", "secret") for user in mine[n : n + lines]])
            for n in range(0, len(mine), lines)
        ]

        async def come(one):
            n, (first, *more) = one
            # The ports of one address end.
            source = f"127.0.{1 + len(WEB) * n // OF_ONE_ADDRESS}.1"
            await first.connect(WEB[node], source=source)
            for line in more:
                line.reader, line.writer = first.reader, first.writer
            await register(one)

        async def register(one):
            for line in one[1]:
                await line.register()

        await step()
        await each(browsers, AT_ONCE, come)
        yield len(mine)
        await step()
        await each(browsers, AT_ONCE, register)
        yield len(mine)
        staying = [asyncio.create_task(stay(first)) for _, (first, *_) in browsers]
        await step()
        [task.cancel() for task in staying]
        [first.close() for _, (first, *_) in browsers]
        yield len(mine)

    return work


async def registrations(crowds, count, children, store):
    """So many connect and register, a third at each node, and register again."""

    async def go():
        done = await asyncio.gather(*(crowd.go() for crowd in crowds))
        assert sum(n for (n,) in done) == count
        # Writes to the others are under way for a moment.
        await asyncio.sleep(3)

    found = {}
    before, spent, held = memory(children), cpu(children), store and redis_memory()
    operations = store and redis_operations()
    await go()
    found["first_us"] = (cpu(children) - spent) * 1e6 / count
    found["bytes"] = (memory(children) - before) / count
    if store:
        found["store_bytes"] = (redis_memory() - held) / count
        found["first_operations"] = (redis_operations() - operations) / count
        operations = redis_operations()
    spent = cpu(children)
    await go()
    found["again_us"] = (cpu(children) - spent) * 1e6 / count
    if store:
        found["again_operations"] = (redis_operations() - operations) / count
    return found


async def calls(children):
    """Calls on one node and calls across two, in turn, so that each meets the same machine."""
    phones = [Phone(f"phone{n}") for n in range(3 * PAIRS)]
    for n, phone in enumerate(phones):
        await phone.come("a" if n < 2 * PAIRS else "b")
    await asyncio.sleep(2)
    took, spent, number = {"one": [], "two": []}, {"one": 0.0, "two": 0.0}, 0
    refused = []
    for _ in range(CALLS // PAIRS):
        for kind, to in (("one", PAIRS), ("two", 2 * PAIRS)):
            before = cpu(children)
            for n in range(PAIRS):
                number += 1
                try:
                    took[kind].append(await phones[n].call(phones[to + n].user, number))
                except AssertionError as why:
                    # Where others use the machine, the store may be late for one.
                    refused.append(str(why))
                    if len(refused) > CALLS // 5:
                        raise
            await asyncio.sleep(0.05)
            spent[kind] += cpu(children) - before
    [phone.close() for phone in phones]
    for why in refused:
        print(why[why.find("text=") :].splitlines()[0], file=sys.stderr)
    middle = {kind: sorted(all)[len(all) // 2] for kind, all in took.items()}
    late = {kind: sorted(all)[len(all) * 99 // 100] for kind, all in took.items()}
    each_us = {kind: seconds * 1e6 / len(took[kind]) for kind, seconds in spent.items()}
    return middle, late, each_us, len(refused)


# ---- what comes of it


def started(stack, count):
    """The browsers' processes, one for each node: there are more of them than files of one."""
    crowds = [Crowd(1, browsers_of(node, count)) for node in WEB]
    for crowd in crowds:
        stack.callback(crowd.end)
    return crowds


def of_webtrunk(folder, count):
    with ExitStack() as stack:
        store = ["redis-server", "--port", str(REDIS), "--bind", "127.0.0.1", "--save", ""]
        stack.enter_context(running([*store, "--dir", str(folder)], folder / "redis.log"))
        until("the store answers", lambda: is_open(REDIS))
        children = []
        for node in WEB:
            log = folder / f"{node}.log"
            children.append(stack.enter_context(running(webtrunk(folder, node, count), log)))
            until("a gateway serves", lambda log=log: "serves the page" in log.read_text(), 120)
        time.sleep(3)

        crowds = started(stack, count)

        async def both():
            found = await registrations(crowds, count, children, True)
            found["calls"] = await calls(children)
            return found

        return asyncio.run(both())


def of_kamailio(folder, count):
    with ExitStack() as stack:
        children = []
        for node in WEB:
            log = folder / f"kamailio-{node}.log"
            children.append(stack.enter_context(running(kamailio(folder, node), log)))
        until("they listen", lambda: all(is_open(port) for port in WEB.values()))
        time.sleep(5)

        found = asyncio.run(registrations(started(stack, count), count, children, False))
        for node in WEB:
            known = known_to(folder, node)
            if known < count:
                raise AssertionError(f"Kamailio {node} knows {known} of {count} contacts")
        return found


def table(rows):
    """The table of n against cost."""
    figures = (
        ("memory of a registration, all nodes", "bytes", "{:.0f} bytes"),
        ("memory of a registration, Redis", "store_bytes", "{:.0f} bytes"),
        ("CPU to connect and register, all nodes", "first_us", "{:.0f} µs"),
        ("CPU of a refreshing REGISTER, all nodes", "again_us", "{:.0f} µs"),
        ("operations of a first REGISTER", "first_operations", "{:.2f}"),
        ("operations of a refreshing REGISTER", "again_operations", "{:.2f}"),
    )
    print(f"| | {' | '.join(f'{n:,} registrations' for n in rows)} |")
    print(f"| --- |{' --- |' * len(rows)}")
    connections = (-(-n // lines_each(n)) for n in rows)
    print(f"| connections | {' | '.join(f'{n:,}' for n in connections)} |")
    for what, name, form in figures:
        print(f"| {what} | {' | '.join(form.format(r[0][name]) for r in rows.values())} |")
    for kind, what in (("one", "a call on one node"), ("two", "a call across two")):
        of = [r[0]["calls"] for r in rows.values()]
        print(f"| CPU of {what}, all nodes | {' | '.join(f'{c[2][kind]:.0f} µs' for c in of)} |")
        times = (f"{middle[kind]:.1f} ms, p99 {late[kind]:.1f} ms" for middle, late, *_ in of)
        print(f"| set-up of {what} | {' | '.join(times)} |")
    added = (r[0]["calls"][1]["two"] - r[0]["calls"][1]["one"] for r in rows.values())
    print(f"| added across two, p99 | {' | '.join(f'{ms:.1f} ms' for ms in added)} |")
    missed = (str(r[0]["calls"][3]) for r in rows.values())
    print(f"| refused of {2 * CALLS} calls, the store being late | {' | '.join(missed)} |")
    print("\n| beside three Kamailios with dmq_usrloc | Kamailio | webtrunk | ratio |")
    print("| --- | --- | --- | --- |")
    for n, (ours, theirs) in rows.items():
        for what, name, form in (figures[0], figures[2], figures[3]):
            own = ours[name] + (ours["store_bytes"] if name == "bytes" else 0)
            both = f"{form.format(theirs[name])} | {form.format(own)}"
            print(f"| {n:,} registrations: {what} | {both} | **{own / theirs[name]:.2f}** |")


def main():
    numbers = [int(arg) for arg in sys.argv[1:]] or [1_000, 10_000]
    all_files()
    rows = {}
    for number in numbers:
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(place)
            try:
                rows[number] = of_webtrunk(folder, number), of_kamailio(folder, number)
            except BaseException:
                for log in sorted(folder.glob("*.log")):
                    print(f"{log.name}:\n{log.read_text()[-1500:]}")
                raise
    table(rows)
    worst = max(r[0]["calls"][1]["two"] - r[0]["calls"][1]["one"] for r in rows.values())
    dear = max(max(r[0]["first_operations"], r[0]["again_operations"]) for r in rows.values())
    missed = max(r[0]["calls"][3] for r in rows.values())
    if worst > 5 or dear > 2.01 or missed:
        print(
            f"FAILED  {worst:.1f} ms more across two nodes, {dear:.2f} operations a REGISTER, "
            f"{missed} calls refused"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
