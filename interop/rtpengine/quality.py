#!/usr/bin/env python3
"""quality.py SPEECH.wav FOLDER: compares the recordings in FOLDER with the speech.

By narrowband PESQ (ITU-T P.862.1), because it is the measure made for narrowband telephone speech
with lost packets, aligns delays itself, and runs here. Eight seconds at a time, as P.862.3 asks,
each looked for where it is; the mean is printed.
"""

import pathlib
import sys
import wave

import numpy
from pesq import pesq

PIECE = 8 * 8000


def read(path):
    with wave.open(str(path)) as file:
        return numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16)


def place(piece, heard, near):
    """Where in `heard` the piece begins, looked for up to five seconds before `near`.

    A peer that leaves lost speech out is early by all it left out, and is not to be marked down
    for that twice.
    """
    start = max(0, near - 5 * 8000)
    there = heard[start : near + len(piece) + 8000].astype(float)
    size = 1 << (len(there) + len(piece)).bit_length()
    match = numpy.fft.irfft(
        numpy.fft.rfft(there, size) * numpy.conj(numpy.fft.rfft(piece.astype(float), size)), size
    )
    return start + int(numpy.argmax(match[: max(1, len(there) - len(piece) // 2)]))


def score(reference, heard):
    scores = []
    for at in range(0, len(reference) - PIECE + 1, PIECE):
        piece = reference[at : at + PIECE]
        begin = place(piece, heard, at)
        scores.append(pesq(8000, piece, heard[begin : begin + PIECE], "nb"))
    return numpy.mean(scores)


def main():
    reference, folder = read(sys.argv[1]), pathlib.Path(sys.argv[2])
    columns = {
        "rtpengine": ("rtpengine", ""),
        "webtrunk": ("webtrunk", ""),
        "webtrunk, browsers as it asks them": ("webtrunk", "-asked"),
    }
    print("\n| speech, packets lost | " + " | ".join(columns) + " |\n| --- | --- | --- | --- |")
    rows = {
        "to-trunk": "browser to trunk, lost before the peer",
        "to-browser": "trunk to browser, lost before the peer",
        "at-browser": "trunk to browser, lost behind the peer",
    }
    for direction, name in rows.items():
        for loss in (0, 3, 10) if direction != "at-browser" else (3, 10):
            heard = (
                read(folder / f"{peer}-{direction}-{loss}{suffix}.wav")
                for peer, suffix in columns.values()
            )
            print(
                f"| {name}, {loss} % | "
                + " | ".join(f"{score(reference, h):.2f}" for h in heard)
                + " |"
            )


main()
