"""Programs of tests, run by another process on a backend of Keras."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys

import pytest


def skip_without(backend):
    """Skip a test if a backend is not installed."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")


@contextlib.contextmanager
def eagerly():
    """Have TensorFlow run functions as they are.

    To trace a model of a few steps takes longer than to train it.
    """
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def devices(number):
    """The environment of a process where JAX has so many devices."""
    more = f"--xla_force_host_platform_device_count={number}"
    return {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {more}"}


def python(*arguments, check=True, **options):
    """Run Python with some arguments, and return what has ended."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=check,
        **options,
    )


def run_on(backend, *arguments, **options):
    """Run Python on a backend, and return the last line it prints, from JSON.

    Args:
        backend: Name of the backend, for `KERAS_BACKEND`.
        *arguments: Arguments of Python, such as `"-c"` and a program.
        **options: `input` of the process, or more variables as `env`.
    """
    env = {**os.environ, **options.pop("env", {}), "KERAS_BACKEND": backend}
    done = python(*arguments, check=False, env=env, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
