"""What the server of a batch's processes holds before the first of them is forked: modules, tables and AWS's service descriptions.

It holds no socket, thread or credential, which forked processes would share.
"""

import gc
import os
from importlib import import_module

import jinja2  # noqa: F401
import papermill  # noqa: F401

import runbook_lib.chapters.deployment
import runbook_lib.headless.batch.job
import runbook_lib.headless.runner  # noqa: F401
from runbook_lib.aws.client import read_descriptions
from runbook_lib.spec import front_doors
from runbook_lib.spec.chapters import CHAPTERS

for chapter in CHAPTERS.values():
    import_module(chapter.module)
read_descriptions()
front_doors.words()
os.setsid()  # out of the batch's group, to which a lost terminal and `timeout` send signals: without this server nobody hears how its processes end
gc.freeze()  # which the forked processes share: none of them looks there for garbage
