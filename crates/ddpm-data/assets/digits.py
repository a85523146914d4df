"""Makes digits.bin from scikit-learn's digits.csv.gz: `python digits.py digits.csv.gz digits.bin`.

Each record is one byte of class (0..9) and 64 bytes of gray (0..16), row by row.
"""

import csv
import gzip
import sys

source, target = sys.argv[1:]
with gzip.open(source, "rt") as lines, open(target, "wb") as out:
    for row in csv.reader(lines):
        values = [int(float(v)) for v in row]
        out.write(bytes([values[64], *values[:64]]))
