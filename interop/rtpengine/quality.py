#!/usr/bin/env python3
"""quality.py SPEECH.wav FOLDER: the recordings in FOLDER against the speech, by narrowband PESQ (ITU-T P.862.1).

PESQ because it is the measure made for narrowband telephone speech with lost packets, aligns delays itself, and
runs here. Ten seconds at a time, as P.862.3 asks; the mean is printed.
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


def score(reference, heard):
    pieces = range(0, min(len(reference), len(heard)) - PIECE + 1, PIECE)
    return numpy.mean([pesq(8000, reference[at : at + PIECE], heard[at : at + PIECE], "nb") for at in pieces])


def main():
    reference, folder = read(sys.argv[1]), pathlib.Path(sys.argv[2])
    print("\n| speech, packets lost | rtpengine, MOS-LQO | webtrunk, MOS-LQO |\n| --- | --- | --- |")
    for direction in ("to-trunk", "to-browser"):
        for loss in (0, 3, 10):
            theirs, ours = (score(reference, read(folder / f"{peer}-{direction}-{loss}.wav")) for peer in ("rtpengine", "webtrunk"))
            print(f"| {direction.replace('-', ' the ')}, {loss} % | {theirs:.2f} | {ours:.2f} |")


main()
