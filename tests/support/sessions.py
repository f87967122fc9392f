"""Sessions of Session Manager at an endpoint in this process, up to the data channel: moto has none, and no machines that they could lead to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ec2lab.api import session_manager
from moto.core.responses import ActionResult
from moto.ssm.responses import SimpleSystemManagerResponse
from websockets.sync.server import serve

SESSION = "operator-0123456789abcdef0"


@contextmanager
def data_channels() -> Iterator[str]:
    """StartSession leads to a websocket that admits whom the lab's admits, and then ends. Yields the websocket's URL."""
    server = serve(lambda websocket: websocket.close(), "127.0.0.1", 0, process_request=session_manager.admitted, compression=None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1/data-channel/{SESSION}?role=publish_subscribe"

    def start_session(self: Any) -> ActionResult:
        return ActionResult({"SessionId": SESSION, "TokenValue": "the token", "StreamUrl": url})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimpleSystemManagerResponse, "start_session", start_session, raising=False)
        yield url
    server.shutdown()
