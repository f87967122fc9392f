"""The lab's daemon: API, hypervisor and package proxy in one process. Started by `lifecycle.up`, ended by a signal.

Whatever it leaves behind, also after kill -9, is found and removed by `cleanup.sweep`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from ec2lab import access_key, proxy
from ec2lab.api.server import make_servers
from ec2lab.machines import image
from ec2lab.machines.hypervisor import Hypervisor
from ec2lab.network import links
from ec2lab.paths import PROXY_PORT, Lab, find_lab


def serve(lab: Lab, images: Sequence[str], allowed: list[str]) -> None:
    """Run until SIGTERM or SIGINT. The pid file is written at the start, `aws-config` when the lab answers."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("werkzeug", "httpx2", "httpcore2", "botocore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asked_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_end.set())
    lab.pid_file.write_text(f"{os.getpid()}\n")
    built = [image.ensure(name=name) for name in images]
    with image.in_use(built):
        _serve(lab, built, allowed, asked_to_end)


def _serve(lab: Lab, built: list[image.Image], allowed: list[str], asked_to_end: threading.Event) -> None:
    links.open_lab(lab)
    hypervisor = Hypervisor(lab, built)
    key, answering = make_servers(lab, built, hypervisor, lab.run / "images.json")
    packages = proxy.serve(str(lab.gateway), PROXY_PORT, proxy.PackageCache(), allowed)
    for server in (*answering, packages):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    access_key.write(lab, key)
    logging.info("lab %s answers at %s with %s", lab.name, lab.endpoint, ", ".join(f"{each.name} {each.ami} ({each.key})" for each in built))
    asked_to_end.wait()
    logging.info("lab %s ends", lab.name)
    os._exit(0)  # without waiting for the machines' threads; the sweep that follows ends the machines


def main(argv: list[str]) -> None:
    """`python -m ec2lab.daemon NAME RANGE IMAGE,... [ALLOWED-HOST...]`: detach and serve."""
    lab = find_lab(argv[0], argv[1])
    if os.fork():
        os._exit(0)
    os.setsid()
    serve(lab, image.parse_names(argv[2]), argv[3:])


if __name__ == "__main__":
    main(sys.argv[1:])
