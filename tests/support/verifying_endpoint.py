"""An AWS endpoint in this process that verifies signatures and holds users to their policies, as a lab's does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from ec2lab.api import authorization, credentials, signatures

from tests.support.signed_requests import ROOT


@pytest.fixture(scope="module")
def verifying() -> Iterator[str]:
    """Its URL. `signed_requests.ROOT` is the key of its account."""
    server = pytest.importorskip("moto.server")
    from moto.core.authorization import ActionAuthenticatorMixin
    from moto.sts.models import STSBackend
    from moto.sts.responses import TokenResponse
    from werkzeug.serving import make_server

    replaced = {
        TokenResponse: ("get_session_token", "get_federation_token", "assume_role", "assume_role_with_web_identity", "assume_role_with_saml"),
        STSBackend: ("get_caller_identity",),
        ActionAuthenticatorMixin: ("_authenticate_and_authorize_normal_action", "_authenticate_and_authorize_s3_action"),
        credentials: ("_root",),
    }
    with pytest.MonkeyPatch.context() as patch:
        for owner, names in replaced.items():
            for name in names:
                patch.setattr(owner, name, getattr(owner, name))  # put back afterwards
        credentials.install(ROOT)
        authorization.install()
        application = signatures.verifying(server.DomainDispatcherApplication(server.create_backend_app), credentials.find)
        serving = make_server("127.0.0.1", 0, application, threaded=True, request_handler=server.MotoRequestHandler)
        serving.log = lambda *words: None  # type: ignore[method-assign,assignment]
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
