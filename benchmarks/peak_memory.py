"""Peak memory of a command, as a process: ``python benchmarks/peak_memory.py COMMAND ...`` prints KiB.

A process of its own, which imports nothing large: Linux counts the memory of the process that starts a command as the
command's own, up to the moment at which the command takes its place.
"""

from __future__ import annotations

import resource
import subprocess
import sys


def main() -> int:
    """Run the command silently and print the largest resident set, in KiB as Linux counts; give its exit code."""
    done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
