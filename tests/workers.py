"""Several processes that train together, on this machine."""

import contextlib
import json
import os
import socket


def environments(number=2):
    """The environment of each of some workers that will find one another."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(number):
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return [
        {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_CONFIG": json.dumps(
                {
                    "cluster": cluster,
                    "task": {"type": "worker", "index": index},
                }
            ),
        }
        for index in range(number)
    ]
