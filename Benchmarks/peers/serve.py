"""Runs one peer: python serve.py MODULE SETTINGS THREADS, then a question in JSON a line, answered by a line each.

A module of this folder has a class Peer, made from the settings, with
  modes                  names of the ways it can do the work, each to be tried
  step(mode)             does the work once
  sample(mode)           (optional) does it once and returns what is measured, where that is not seconds
  results(mode, inputs)  (optional) its results on given tensors, by name
"""
import importlib
import json
import os
import sys
import time

module, settings, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
# What libraries print must not mix with the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
os.environ.setdefault("OMP_NUM_THREADS", str(threads))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

torch.set_num_threads(threads)
torch.manual_seed(0)
peer = importlib.import_module(module).Peer(settings)


def sample(mode):
    if hasattr(peer, "sample"):
        return peer.sample(mode)
    start = time.perf_counter()
    peer.step(mode)
    return time.perf_counter() - start


def answer(question):
    if question["do"] == "modes":
        return {"modes": peer.modes}
    if question["do"] == "check":
        found = peer.results(question["mode"], load_file(question["inputs"]))
        save_file({name: x.detach().float().contiguous() for name, x in found.items()}, question["outputs"])
        return {}
    count = question["repetitions"]
    if count > 1:
        sample(question["mode"])
    return {"value": sum(sample(question["mode"]) for _ in range(count)) / count}


for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(reply), file=answers, flush=True)
