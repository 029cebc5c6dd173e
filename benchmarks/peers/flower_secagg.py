"""Flower's SecAgg+ on given vectors: its own client functions, and its workflow's steps on the server, timed.

Runs inside a virtual environment that holds flwr; `benchmarks/secagg.py` makes one and calls this file.

    python flower_secagg.py vectors.npy DROPPED [CLIP MAX_WEIGHT]

Seconds are those of the processor (`time.process_time`); everything runs on one thread.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

mod = import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")  # a function of that name hides the module

CLIP, TARGET, MODULUS, MAX_WEIGHT = 8.0, 4194304, 4294967296, 1000.0  # SecAggPlusWorkflow's defaults
WARM_UP = (5, 1000)  # artists and numbers of a round before the clock counts
WEIGHT = 20  # examples of one artist


def run(vectors: np.ndarray, dropped: int, clip: float = CLIP, max_weight: float = MAX_WEIGHT) -> dict[str, float]:
    """One round; seconds of the median client and of the server, and the error of the mean."""
    n = len(vectors)
    nodes = list(range(1, n + 1))
    alive = nodes[: n - dropped]
    config = {
        Key.SAMPLE_NUMBER: n,
        Key.SHARE_NUMBER: n,
        Key.THRESHOLD: n // 2 + 1,
        Key.CLIPPING_RANGE: clip,
        Key.TARGET_RANGE: TARGET,
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: max_weight,
    }
    states = {node: mod.SecAggPlusState() for node in nodes}
    spent = dict.fromkeys(nodes, 0.0)

    def timed(node: int, call: Any, *arguments: Any) -> Any:
        started = time.process_time()
        result = call(*arguments)
        spent[node] += time.process_time() - started
        return result

    public = {}
    for node in nodes:
        states[node].nid = node
        reply = timed(node, mod._setup, states[node], config)
        public[str(node)] = [reply[Key.PUBLIC_KEY_1], reply[Key.PUBLIC_KEY_2]]
    forward: dict[int, tuple[list[int], list[bytes]]] = {node: ([], []) for node in nodes}
    for node in nodes:
        reply = timed(node, mod._share_keys, states[node], public)
        for to, text in zip(reply[Key.DESTINATION_LIST], reply[Key.CIPHERTEXT_LIST], strict=True):
            forward[to][0].append(node)
            forward[to][1].append(text)
    server, total, wire = 0.0, None, 0
    for node in alive:
        parameters = ndarrays_to_parameters([vectors[node - 1]])
        sources, texts = forward[node]
        settings = {Key.SOURCE_LIST: sources, Key.CIPHERTEXT_LIST: texts}
        reply = timed(node, mod._collect_masked_vectors, states[node], settings, WEIGHT, parameters)
        wire = sum(len(data) for data in reply[Key.MASKED_PARAMETERS])
        started = time.process_time()
        arrays = [bytes_to_ndarray(data) for data in reply[Key.MASKED_PARAMETERS]]
        total = arrays if total is None else parameters_addition(total, arrays)
        server += time.process_time() - started
    dead = [node for node in nodes if node not in alive]
    collected: dict[int, list[bytes]] = {node: [] for node in nodes}
    for node in alive:
        settings = {Key.ACTIVE_NODE_ID_LIST: alive, Key.DEAD_NODE_ID_LIST: dead}
        reply = timed(node, mod._unmask, states[node], settings)
        for owner, share in zip(reply[Key.NODE_ID_LIST], reply[Key.SHARE_LIST], strict=True):
            collected[owner].append(share)
    started = time.process_time()
    masked = parameters_mod(total, MODULUS)
    for node, shares in collected.items():
        secret = combine_shares(shares)
        shape = get_parameters_shape(masked)
        if node in alive:
            masked = parameters_subtraction(masked, pseudo_rand_gen(secret, MODULUS, shape))
            continue
        for other in nodes:
            if other == node:
                continue
            key = generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(public[str(other)][0]))
            mask = pseudo_rand_gen(key, MODULUS, shape)
            masked = parameters_addition(masked, mask) if node > other else parameters_subtraction(masked, mask)
    ratio, masked = factor_extract(parameters_mod(masked, MODULUS))
    (mean,) = dequantize(masked, clip, TARGET)
    mean = (mean - (len(alive) - 1) * clip) * (TARGET / ratio)
    unmask = time.process_time() - started
    clear = vectors[: len(alive)].astype(np.float64).mean(axis=0)
    return {
        "client_s": float(np.median([spent[node] for node in alive])),
        "server_unmask_s": unmask,
        "server_add_s": server,
        "bytes_per_param": wire / vectors.shape[1],
        "error": float(np.abs(mean - clear).max()),
    }


if __name__ == "__main__":
    run(np.zeros(WARM_UP, np.float32), 1)
    settings = [float(text) for text in sys.argv[3:5]]
    print(json.dumps(run(np.load(sys.argv[1], mmap_mode="r"), int(sys.argv[2]), *settings)))
