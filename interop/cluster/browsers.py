"""Browsers by the thousand, as far as a registrar is concerned: WebSocket, REGISTER, digest."""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import multiprocessing
import os
import re
import resource

NUMBERS = itertools.count(1)


def unique():
    """What no other message of this or another process has."""
    return f"{os.getpid()}x{next(NUMBERS)}"


class Refused(Exception):
    """The upgrade was refused: its status, and the seconds of Retry-After."""

    def __init__(self, status, after):
        super().__init__(f"{status}, again in {after} s")
        self.status, self.after = status, after


def all_files():
    """Lets this process and what it starts open as many files as may be; returns how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Crowd:
    """Browsers in processes of their own, as many as files or processors ask for. `work` is called
    in each with its part's number and a `step` that waits until the next `go` and returns what that
    said; each `go` returns what the parts yielded."""

    def __init__(self, parts, work):
        fork = multiprocessing.get_context("fork")
        self.pipes, self.children = [], []
        for part in range(parts):
            ours, theirs = fork.Pipe()
            child = fork.Process(target=self.run, args=(work, part, theirs), daemon=True)
            child.start()
            self.pipes.append(ours)
            self.children.append(child)

    @staticmethod
    def run(work, part, pipe):
        async def all_of_it():
            loop = asyncio.get_running_loop()
            async for said in work(part, lambda: loop.run_in_executor(None, pipe.recv)):
                pipe.send(said)

        with contextlib.suppress(EOFError, KeyboardInterrupt):
            asyncio.run(all_of_it())

    async def go(self, said=None):
        """Has all parts go on; returns what each yields, once all have."""
        for pipe in self.pipes:
            pipe.send(said)
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(None, pipe.recv) for pipe in self.pipes))

    def end(self):
        for child in self.children:
            child.terminate()
            child.join()


async def each(browsers, at_once, work):
    """Does `work` with all, so many at once."""
    todo = iter(browsers)

    async def worker():
        for browser in todo:
            await work(browser)

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def stay(browser):
    """Answers pings until the connection is closed."""
    with contextlib.suppress(ConnectionError, EOFError, asyncio.CancelledError, OSError):
        while True:
            await browser.message()


def frame(text):
    """A masked text frame (RFC 6455)."""
    data, mask = text.encode(), os.urandom(4)
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + size + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(data))


def digest(challenge, user, password, uri):
    """The answer to a challenge by MD5 or SHA-256."""
    given = dict(re.findall(r'(\w+)="?([^",]+)', challenge))
    kind = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[given.get("algorithm", "MD5")]

    def hashed(*parts):
        return kind(":".join(parts).encode()).hexdigest()

    one = hashed(user, given["realm"], password)
    answer = hashed(one, given["nonce"], "00000001", "c", "auth", hashed("REGISTER", uri))
    return (
        f'Digest username="{user}", realm="{given["realm"]}", nonce="{given["nonce"]}", '
        f'uri="{uri}", response="{answer}", algorithm={given.get("algorithm", "MD5")}, '
        'qop=auth, nc=00000001, cnonce="c"'
    )


class Browser:
    """One that registers as `user` and stays."""

    def __init__(self, domain, user, password):
        self.domain, self.user, self.password = domain, user, password
        self.call_id, self.cseq = f"r{unique()}", 0
        self.reader = self.writer = None

    async def connect(self, port, tls=None, host="127.0.0.1", source=None):
        name = {"server_hostname": self.domain} if tls else {}
        if source:
            name["local_addr"] = (source, 0)
        self.reader, self.writer = await asyncio.open_connection(host, port, ssl=tls, **name)
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(
            f"GET /sip HTTP/1.1\r\nHost: {self.domain}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: sip\r\n\r\n".encode()
        )
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ")[1])
        if status != 101:
            after = re.search(r"^retry-after: (\d+)", head, re.M | re.I)
            raise Refused(status, int(after[1]) if after else 0)

    async def message(self):
        """The next text."""
        while True:
            first, size = await self.reader.readexactly(2)
            size &= 0x7F
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            data = await self.reader.readexactly(size)
            if first & 0x0F == 8:
                raise ConnectionError("it was closed")
            if first & 0x0F == 9:
                self.writer.write(b"\x8a\x80" + os.urandom(4))
            if first & 0x0F == 1 and data.strip():
                return data.decode()

    def send_register(self, more=""):
        self.cseq += 1
        own = f"sip:{self.user}@{self.domain}"
        self.writer.write(
            frame(
                f"REGISTER sip:{self.domain} SIP/2.0\r\n"
                f"Via: SIP/2.0/WS x.invalid;branch=z9hG4bK{unique()}\r\n"
                f"Max-Forwards: 70\r\nFrom: <{own}>;tag=f\r\nTo: <{own}>\r\n"
                f"Call-ID: {self.call_id}\r\nCSeq: {self.cseq} REGISTER\r\n"
                f"Contact: <sip:{self.user}@x.invalid;transport=ws>;reg-id=1;expires=600"
                f';+sip.instance="<urn:uuid:{self.call_id}>"\r\n'
                f"Supported: outbound, path\r\n{more}Content-Length: 0\r\n\r\n"
            )
        )

    async def register(self):
        self.send_register()
        for _ in range(4):
            answer = await self.message()
            status = int(answer.split(" ")[1])
            if status == 200:
                return
            if status != 401:
                raise ConnectionError(answer.split("\r\n")[0])
            challenge = re.search(r"^WWW-Authenticate: Digest (.*?)\r$", answer, re.M | re.I)[1]
            own = digest(challenge, self.user, self.password, f"sip:{self.domain}")
            self.send_register(f"Authorization: {own}\r\n")
        raise ConnectionError("it was challenged again and again")

    def close(self):
        if self.writer:
            self.writer.transport.abort()
