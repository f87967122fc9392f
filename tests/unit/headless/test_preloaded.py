"""What a batch's processes are forked from: AWS's descriptions are read before, and nothing is held that they would share."""

from __future__ import annotations

import subprocess
import sys

IN_A_PROCESS = """
import os, threading
from pathlib import Path
import runbook_lib.headless.preloaded
held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
assert threading.active_count() == 1, threading.enumerate()
assert not [one for one in held if one.startswith("socket:")], held
assert os.getpgrp() == os.getpid(), "a signal to the batch's group ends it, and nobody can wait for its processes or kill them"

from botocore.loaders import JSONFileLoader
from runbook_lib.aws.client import Aws
from runbook_lib.spec.sections import CloudSpec
plain, read = JSONFileLoader._load_file, []
def load(self, *words):
    found = plain(self, *words)
    read.extend(words[:1] if found is not None else [])
    return found
JSONFileLoader._load_file = load
for service in ("ec2", "ssm", "sts", "s3"):
    Aws(CloudSpec(region="eu-central-1")).client(service)
assert not read, read
"""


def test_a_forked_run_reads_no_description_again_and_shares_neither_socket_nor_thread_nor_the_batchs_group() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_PROCESS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
