"""llama.cpp's own server with a small real model, as a program: `llama.py MODEL PORT CONTEXT`.

It has one slot: a second request waits in its queue. It prints its address when the model is loaded, and ends with
its standard input, so that it never outlives its test.
"""

import os
import sys
from importlib import import_module
from typing import Any


def main(model: str, port: str, context: str) -> None:
    library: Any = import_module("xllamacpp")  # only `dev.py test --model` installs it, so type checkers don't know it
    options = library.CommonParams()
    options.model.path = model
    options.port, options.n_ctx, options.n_parallel = int(port), int(context), 1
    options.endpoint_metrics = True
    options.fit_params = options.warmup = options.ui = False
    options.verbosity = 0
    # Its threads wait for one another busily: two of them on two busy cores need twenty times as long as one.
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    server = library.Server(options)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # not at the end of an answer, for which the library would wait


if __name__ == "__main__":
    main(*sys.argv[1:])
