"""Starts a server, and stops it as soon as it serves: until_ready.py SOCKET BINARY. Exits as it does."""

import os
import signal
import socket
import subprocess
import sys

path, binary = sys.argv[1:]
notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if os.path.exists(path):
    os.unlink(path)
notified.bind(path)
notified.settimeout(0.1)
server = subprocess.Popen([binary, "run"], env={**os.environ, "NOTIFY_SOCKET": path})
while server.poll() is None:
    try:
        if notified.recv(4096).startswith(b"READY=1"):
            server.send_signal(signal.SIGTERM)
    except TimeoutError:
        pass
sys.exit(server.returncode)
