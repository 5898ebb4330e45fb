"""RFC 6455 case by case, in the order of Autobahn's: what the gateway makes of each.

A SIP message that is taken is answered (a REGISTER by 401, an empty line by an empty line), so
"taken" is seen as an answer and "refused" as a close frame with a code, or an end.
"""

import base64
import contextlib
import os
import socket
import ssl
import struct
import time

import rig

REGISTER = (
    "REGISTER sip:hostile.test SIP/2.0\r\nVia: SIP/2.0/WSS x.invalid;branch=z9hG4bK{0}\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:alice@hostile.test>;tag={0}\r\nTo: <sip:alice@hostile.test>\r\n"
    "Call-ID: {0}\r\nCSeq: 1 REGISTER\r\nContact: <sip:alice@x.invalid;transport=ws>\r\n"
    "{1}Content-Length: 0\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN, RSV = 0x80, 0x40
PATIENCE = 12


def register(size=0):
    text = REGISTER.format(os.urandom(6).hex(), "")
    pad = size - len(text)
    if pad > 0:
        # In lines that are short enough each.
        line = "X-Pad: " + "a" * 4_000 + "\r\n"
        count, rest = divmod(pad, len(line))
        if rest and rest < 10:
            count, rest = count - 1, rest + len(line)
        more = line * count + ("X: " + "b" * (rest - 5) + "\r\n" if rest else "")
        text = text.replace("Content-Length", more + "Content-Length")
    return text.encode()


def frame(payload=b"", first=FIN | TEXT, masked=True, length=None):
    n = len(payload)
    mask = 0x80 if masked else 0
    if length is None:
        length = 0 if n < 126 else 2 if n < 65_536 else 8
    head = {0: [mask | n], 2: [mask | 126], 8: [mask | 127]}[length]
    size = {0: b"", 2: struct.pack(">H", n & 0xFFFF), 8: struct.pack(">Q", n)}[length]
    key = os.urandom(4) if masked else b""
    body = bytes(b ^ key[i % 4] for i, b in enumerate(payload)) if masked else payload
    return bytes([first, *head]) + size + key + body


def fragments(payload, size, opcode=TEXT, between=b""):
    parts = [payload[i : i + size] for i in range(0, len(payload), size)]
    out = frame(parts[0], opcode)
    for part in parts[1:-1]:
        out += between + frame(part, 0)
    return out + between + frame(parts[-1], FIN)


def upgrade(stream, *lines, path="/sip", method="GET", version="HTTP/1.1"):
    key = base64.b64encode(os.urandom(16)).decode()
    usual = {
        "Host": f"hostile.test:{rig.WEB}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": "sip",
    }
    extra = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.startswith("+"):
            extra.append(f"{name[1:]}:{value}")
        elif value:
            usual[name] = value.strip()
        else:
            usual.pop(name, None)
    head = [f"{method} {path} {version}", *(f"{k}: {v}" for k, v in usual.items()), *extra]
    stream.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            return 0
        answer += byte
    return int(answer.split()[1])


class Answers:
    """The frames that come back."""

    def __init__(self, stream):
        self.stream, self.bytes = stream, b""
        stream.settimeout(PATIENCE)

    def take(self, n):
        while len(self.bytes) < n:
            got = self.stream.recv(65_536)
            if not got:
                raise ConnectionError
            self.bytes += got
        out, self.bytes = self.bytes[:n], self.bytes[n:]
        return out

    def next(self):
        """(opcode, payload); (None, b"") at the end of the connection."""
        try:
            first, size = self.take(2)
            if size == 126:
                size = struct.unpack(">H", self.take(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.take(8))[0]
            return first & 15, self.take(size)
        except (ConnectionError, OSError):
            return None, b""


def outcome(answers):
    """What became of what was sent: "taken", "pong PAYLOAD", a close code, or "ended"."""
    opcode, payload = answers.next()
    if opcode == TEXT:
        return "taken"
    if opcode == PONG:
        return "pong " + payload.decode("latin-1")
    if opcode == CLOSE:
        return struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else "closed"
    return "ended"


def close(code, reason=b""):
    return frame(struct.pack(">H", code) + reason, FIN | CLOSE)


def table():
    """(name, bytes, what may become of it)."""
    good, taken = register(), ["taken"]
    yield from (
        # 1: framing of texts of each length's form.
        *((f"1.1 a text of {n} bytes", frame(register(n)), taken) for n in (400, 65_000)),
        ("1.1 an empty text", frame(b"") + frame(good), taken),
        ("1.1 a keep-alive", frame(b"\r\n\r\n"), taken),
        ("1.1 65,535 bytes", frame(register(65_535)), taken),
        ("1.1 65,537 bytes", frame(b"x" * 65_537), [1009]),
        ("1.1 a length of 2^63", bytes([FIN | TEXT, 0xFF]) + b"\x80" + bytes(11), [1002, 1009]),
        (
            "1.1 a length of 2^32 and 32",
            bytes([FIN | TEXT, 0xFF]) + struct.pack(">Q", 2**32 + 32) + bytes(36),
            [1009],
        ),
        ("1.1 a length longer than its form needs", frame(good, length=8), ["taken", 1002]),
        ("1.2 a message in a binary frame", frame(good, FIN | BINARY), taken),
        (
            "1.2 a binary frame of junk",
            frame(os.urandom(200), FIN | BINARY) + frame(good),
            ["taken", 1003, 1007],
        ),
        # 2: pings and pongs.
        ("2.1 an empty ping", frame(b"", FIN | PING), ["pong "]),
        ("2.2 a ping of text", frame(b"hello", FIN | PING), ["pong hello"]),
        ("2.3 a ping of bytes", frame(b"\x00\xff\xfe", FIN | PING), ["pong \x00\xff\xfe"]),
        ("2.4 a ping of 125 bytes", frame(b"p" * 125, FIN | PING), ["pong " + "p" * 125]),
        ("2.5 a ping of 126 bytes", frame(b"p" * 126, FIN | PING), [1002]),
        ("2.6 a pong nobody asked for", frame(b"", FIN | PONG) + frame(good), taken),
        ("2.7 a pong with a payload", frame(b"x", FIN | PONG) + frame(good), taken),
        ("2.8 a pong of 126 bytes", frame(b"x" * 126, FIN | PONG), [1002]),
        ("2.9 a pong, then a ping", frame(b"a", FIN | PONG) + frame(b"b", FIN | PING), ["pong b"]),
        ("2.10 ten pings", frame(b"p", FIN | PING) * 10, ["pong p"]),
        ("2.12 two hundred pings", frame(b"", FIN | PING) * 200, [1008, "ended", "pong "]),
    )
    # 3: reserved bits; 4: reserved opcodes.
    for bits in (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70):
        yield f"3 reserved bits {bits:#x}", frame(good, FIN | TEXT | bits), [1002]
    yield "3 reserved bits of a ping", frame(b"", FIN | PING | RSV), [1002]
    yield "3 reserved bits of a close", frame(b"\x03\xe8", FIN | CLOSE | RSV), [1002]
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"4 opcode {opcode}", frame(b"x", FIN | opcode), [1002]
    # 5: fragments.
    yield from (
        ("5.1 a ping in two", frame(b"a", PING) + frame(b"b", FIN), [1002]),
        ("5.2 a pong in two", frame(b"a", PONG) + frame(b"b", FIN), [1002]),
        ("5.3 a text in two", fragments(good, 200), taken),
        ("5.4 a text in many", fragments(good, 20), taken),
        ("5.5 a byte each", fragments(good, 1), ["taken", 1008]),
        ("5.6 a ping between", fragments(good, 200, between=frame(b"m", FIN | PING)), ["pong m"]),
        (
            "5.8 fragments of nothing",
            frame(b"", TEXT) + frame(b"", 0) + frame(b"", FIN) + frame(good),
            taken,
        ),
        ("5.9 a continuation of nothing, last", frame(b"x", FIN), [1002]),
        ("5.10 a continuation of nothing", frame(b"x", 0), [1002]),
        (
            "5.15 a continuation after the last",
            fragments(good, 200) + frame(b"x", FIN),
            ["taken", 1002],
        ),
        ("5.18 a text within a text", frame(b"a", TEXT) + frame(b"b", FIN | TEXT), [1002]),
        ("5.19 a binary within a text", frame(b"a", TEXT) + frame(b"b", FIN | BINARY), [1002]),
        ("5.20 fragments that are too much together", fragments(b"x" * 70_000, 10_000), [1009]),
        (
            "5.21 a reserved bit in a continuation",
            frame(b"a", TEXT) + frame(b"b", FIN | RSV),
            [1002],
        ),
    )
    # 6: UTF-8.
    for name, text in (
        ("valid, of two, three and four bytes", "é€😀".encode()),
        ("an overlong slash", b"\xc0\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
        ("cut", b"\xe2\x82"),
        ("a continuation alone", b"\x80"),
        ("0xff", b"\xff"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ):
        body = good.replace(b"Content-Length", b"Subject: " + text + b"\r\nContent-Length")
        yield f"6 {name}", frame(body), taken if name.startswith("valid") else [1007]
    split = "€".encode()
    body = good.replace(b"Content-Length", b"Subject: " + split + b"\r\nContent-Length")
    at = body.index(split) + 1
    yield "6 a character in two frames", frame(body[:at], TEXT) + frame(body[at:], FIN), taken
    yield "6 half a character, then the end", frame(b"\xe2", TEXT) + frame(b"x", FIN), [1007]
    # 7: closing.
    yield from (
        ("7.1 a close, then a text", close(1000) + frame(good), [1000]),
        ("7.3 a close without a code", frame(b"", FIN | CLOSE), ["closed", 1000, 1005]),
        ("7.3 a close of one byte", frame(b"x", FIN | CLOSE), [1002]),
        ("7.3 a reason of 123 bytes", close(1000, b"r" * 123), [1000]),
        ("7.3 a reason of 124 bytes", close(1000, b"r" * 124), [1002]),
        ("7.5 a reason that is no UTF-8", close(1000, b"\xff\xfe"), [1002, 1007]),
    )
    for code in (1001, 1002, 1003, 1007, 1011, 3000, 4999):
        yield f"7.7 code {code}", close(code), [code, 1000]
    for code in (0, 999, 1004, 1005, 1006, 1016, 2000, 2999):
        yield f"7.9 code {code}", close(code), [1002]
    # 9, 10: sizes and masks.
    yield "9 no mask", frame(good, masked=False), [1002]
    yield "9 no mask on a ping", frame(b"", FIN | PING, masked=False), [1002]
    yield "9 twenty messages at once", b"".join(frame(register()) for _ in range(20)), taken


# The request of an upgrade: what is different, and the statuses it may get.
UPGRADES = [
    ("as it should be", (), {}, [101]),
    ("an own page's Origin", ("Origin: https://hostile.test:8443",), {}, [101]),
    ("a strange Origin", ("Origin: https://evil.test",), {}, [403]),
    (
        "two Origins",
        ("Origin: https://hostile.test:8443", "+Origin: https://evil.test"),
        {},
        [400, 403],
    ),
    ("Origin null", ("Origin: null",), {}, [403]),
    ("another Host", ("Host: evil.test",), {}, [421]),
    ("two Hosts", ("+Host: evil.test",), {}, [400, 421]),
    ("no Host", ("Host",), {}, [400, 421]),
    ("no subprotocol", ("Sec-WebSocket-Protocol",), {}, [400]),
    ("another subprotocol", ("Sec-WebSocket-Protocol: chat",), {}, [400]),
    ("two subprotocols", ("Sec-WebSocket-Protocol: chat, sip",), {}, [101]),
    ("version 8", ("Sec-WebSocket-Version: 8",), {}, [400, 426]),
    ("no key", ("Sec-WebSocket-Key",), {}, [400]),
    ("POST", (), {"method": "POST"}, [400, 405, 411]),
    ("another path", (), {"path": "/else"}, [404, 400, 200]),
    ("a head of 20 MB", ("X-Long: " + "a" * 20_000_000,), {}, [0, 400, 431]),
    ("1,000 headers", tuple(f"+X-{n}: a" for n in range(1_000)), {}, [0, 400, 431]),
]


def connection(context):
    plain = socket.create_connection((rig.GATEWAY, rig.WEB), timeout=PATIENCE)
    return context.wrap_socket(plain, server_hostname="hostile.test")


def cases(card, _world):
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    wrong, count = [], 0
    for name, data, wanted in table():
        count += 1
        with connection(context) as stream:
            if upgrade(stream) != 101:
                wrong.append(f"{name}: no upgrade")
                continue
            answers = Answers(stream)
            with contextlib.suppress(OSError):
                stream.sendall(data)
            got = outcome(answers)
            if got not in wanted and not (got == "ended" and 1009 in wanted):
                wrong.append(f"{name}: {got!r:.40}, not {wanted!r:.60}")
    for name, lines, how, wanted in UPGRADES:
        count += 1
        with connection(context) as stream:
            try:
                got = upgrade(stream, *lines, **how)
            except OSError:
                got = 0
            if got not in wanted:
                wrong.append(f"upgrade, {name}: {got}, not {wanted}")
    shown = f" ({'; '.join(wrong)})" if wrong else ""
    card.note(16, f"cases that end otherwise, of {count}{shown}", len(wrong), 0)
    slowest(card, context)


def slowest(card, context):
    """The message that is dearest to read: 64 kB of delimiters."""
    line = "Subject: " + "\t ;,=<>:@%()" * 600 + "\r\n"
    text = REGISTER.format("slow", line * 8).encode()
    with connection(context) as stream:
        if upgrade(stream) != 101:
            raise RuntimeError("no upgrade")
        answers = Answers(stream)
        began = time.time()
        stream.sendall(frame(text) * 10)
        taken = sum(answers.next()[0] == TEXT for _ in range(10))
    took = 1e3 * (time.time() - began) / max(1, taken)
    what = f"a message of {len(text) >> 10} kB of delimiters ({taken} of 10 answered), each"
    card.note(16, what, took, 5.0 * (10 if card.short else 1), unit=" ms")
