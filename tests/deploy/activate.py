"""Starts a program with sockets as systemd passes them (sd_listen_fds(3)): activate.py NAME=FD... -- COMMAND..."""

import os
import sys

cut = sys.argv.index("--")
passed = [argument.split("=") for argument in sys.argv[1:cut]]
# First out of the way of where they go: 3 and what follows.
held = [os.dup2(int(fd), 100 + n) for n, (_, fd) in enumerate(passed)]
for n, fd in enumerate(held):
    os.dup2(fd, 3 + n, inheritable=True)
    os.close(fd)
variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": ":".join(n for n, _ in passed)}
os.execvpe(sys.argv[cut + 1], sys.argv[cut + 1:], {**variables, **os.environ})
