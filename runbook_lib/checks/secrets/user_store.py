"""The product's user store, asked by SOAP at the administration service that the product has for it (facts 10.6), which is never public."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from runbook_lib.webclient.client import Client
from runbook_lib.webclient.response import Answer

WRONG_PASSWORD, WORKER = 401, 403  # statuses of `sign_in`
_REFUSED = "Invalid credentials"  # in the fault that a wrong password gets
DONE = (200, 202)  # an operation without a result answers either


@dataclass(frozen=True)
class Service:
    """A product's service: its path, the namespace of its messages, and its operations for what is asked of both products.

    `asked`: an operation with a result, for the administrator; `changes`: the one that changes one's own password. By element, in the order of
    the WSDL, which value it gets: user, old or new.
    """

    path: str
    namespace: str
    asked: str
    asked_with: Mapping[str, str]
    changes: str
    changes_with: Mapping[str, str]


GREG = Service(
    "/services/RemoteUserStoreManagerService",
    "http://service.ws.um.carbon.wso2.org",
    "getRoleListOfUser",
    {"userName": "user"},
    "updateCredentialByAdmin",
    {"userName": "user", "newCredential": "new"},
)
# It refuses changePassword for oneself, and has no `authenticate`; whoever changes his own password has to give the old one.
AS = Service(
    "/services/UserAdmin",
    "http://org.apache.axis2/xsd",
    "getRolesOfCurrentUser",
    {},
    "changePasswordByUser",
    {"userName": "user", "oldPassword": "old", "newPassword": "new"},
)
SERVICES = {"greg": GREG, "as": AS}


def ask(service: Service, client: Client, origin: str, user: str, password: str, operation: str, /, **arguments: object) -> Answer:
    """Call one operation at the node with this origin (https://address:port) as `user`; return the response. A list is sent as a repeated element.

    Raises OSError when there is no response.
    """
    headers = {
        "Content-Type": "text/xml; charset=UTF-8",
        "SOAPAction": f"urn:{operation}",
        "Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode(),
    }
    return client.request("POST", origin + service.path, data=_envelope(service, operation, arguments), headers=headers)


def sign_in(service: Service, client: Client, origin: str, user: str, password: str) -> int:
    """Return the status of a question as the administrator `user`: 200, WRONG_PASSWORD, WORKER, or what else the product answers.

    By the product's sources (facts 10.6) a wrong password gets a fault with status 500, and a worker's 403 may arrive as 202 without a result.
    Raises OSError when there is no response.
    """
    given = {"user": user}
    answer = ask(service, client, origin, user, password, service.asked, **{element: given[value] for element, value in service.asked_with.items()})
    return WRONG_PASSWORD if _REFUSED in answer.text else WORKER if answer.status == 202 else answer.status


def change_password(service: Service, client: Client, origin: str, user: str, old: str, new: str) -> int:
    """Change a password, as the administrator his own or, at an AS node, as anybody; return 0, or the status of a refusal.

    Raises OSError when there is no response.
    """
    given = {"user": user, "old": old, "new": new}
    answer = ask(service, client, origin, user, old, service.changes, **{element: given[value] for element, value in service.changes_with.items()})
    return 0 if answer.status in DONE else answer.status


def _envelope(service: Service, operation: str, arguments: Mapping[str, object]) -> str:
    """Return the SOAP request. Axis2 needs the elements in the order of the WSDL, so the arguments must be in that order."""
    fields = "".join(
        f"<ser:{name}>{escape(str(one), quote=False)}</ser:{name}>"
        for name, value in arguments.items()
        for one in (value if isinstance(value, tuple | list) else (value,))
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ser="{service.namespace}">'
        f"<soapenv:Body><ser:{operation}>{fields}</ser:{operation}></soapenv:Body></soapenv:Envelope>"
    )
