"""Starts onnxd for the comparisons in this folder."""

import subprocess
import sys


def serve(program, folder, *flags):
    """The process, and the address on which it is ready."""
    command = [program, "serve", str(folder), "--listen", "127.0.0.1:0", "--workers", "1", *flags]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if "ready on " in line:
            return server, line.split("ready on ")[1].strip().rstrip('"}')
    sys.exit("the server did not start")
