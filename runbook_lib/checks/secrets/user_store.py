"""The product's user store, asked by SOAP at a node's /services/RemoteUserStoreManagerService (facts 10.6), which is never public."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape

from runbook_lib.webclient.client import Client
from runbook_lib.webclient.response import Answer

SERVICE = "/services/RemoteUserStoreManagerService"
NAMESPACE = "http://service.ws.um.carbon.wso2.org"


def ask(client: Client, origin: str, user: str, password: str, operation: str, **arguments: object) -> Answer:
    """Call one operation at the node with this origin (https://address:port) as `user`; return the response. A list is sent as a repeated element.

    Without the user's right to it the status is 401, and on a worker 403 (facts 3.7). Raises OSError when there is no response.
    """
    headers = {
        "Content-Type": "text/xml; charset=UTF-8",
        "SOAPAction": f"urn:{operation}",
        "Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode(),
    }
    return client.request("POST", origin + SERVICE, data=_envelope(operation, arguments), headers=headers)


def _envelope(operation: str, arguments: Mapping[str, object]) -> str:
    """Return the SOAP request. Axis2 needs the elements in the order of the WSDL, so the arguments must be in that order."""
    fields = "".join(
        f"<ser:{name}>{escape(str(one), quote=False)}</ser:{name}>"
        for name, value in arguments.items()
        for one in (value if isinstance(value, tuple | list) else (value,))
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ser="{NAMESPACE}">'
        f"<soapenv:Body><ser:{operation}>{fields}</ser:{operation}></soapenv:Body></soapenv:Envelope>"
    )
