"""Runs commands at the same time: two suites, of which each leaves a core idle.

    python scripts/side_by_side.py COMMAND [COMMAND ...]

A command is one argument, written as in a shell. What the first says is shown as it comes, what
each other says when those before it have ended. The exit code is 0 if every command's is, and else
the first other one.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress

_PATIENCE_SECONDS = 5


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that has not ended by itself."""
    process.terminate()
    process.wait()


def run(commands: Sequence[str]) -> int:
    """Run the commands, all at once, and return the exit code for all of them."""
    with ExitStack() as stack:
        processes, files = [], []
        for command in commands:
            file = stack.enter_context(tempfile.TemporaryFile()) if processes else None
            process = subprocess.Popen(
                shlex.split(command), stdout=file, stderr=file and subprocess.STDOUT
            )
            stack.callback(_end, process)  # where this ends early
            processes.append(process)
            files.append(file)
        try:
            for process, file in zip(processes, files, strict=True):
                process.wait()
                if file is not None:
                    file.seek(0)
                    shutil.copyfileobj(file, sys.stdout.buffer)
                    sys.stdout.buffer.flush()
        except KeyboardInterrupt:  # a terminal sends it to the commands as well
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE_SECONDS)
            return 128 + signal.SIGINT
    codes = [process.returncode for process in processes]
    for command, code in zip(commands, codes, strict=True):
        if code:
            print(f"error: exit code {code} of {command}", file=sys.stderr, flush=True)
    # a process that a signal ended has a negative code: 128 + the signal, as a shell says it
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


def main() -> int:
    """Run the commands of the command line."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # also where a shell started this in the background, whose commands ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
