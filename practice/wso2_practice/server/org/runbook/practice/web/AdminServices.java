package org.runbook.practice.web;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.stream.Collectors;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.Streams;
import org.runbook.practice.conf.Xml;
import org.runbook.practice.db.Sql;
import org.runbook.practice.users.Users;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.xml.sax.SAXException;

/**
 * /services: the SOAP service that manages users, for administrators, and not on a worker (facts 3.7). G-Reg has
 * RemoteUserStoreManagerService, AS has UserAdmin (facts 10.6).
 */
public final class AdminServices extends Surface {
    private static final long serialVersionUID = 1L;
    private static final String ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/";
    private static final String OWN_CHANGE = "changePasswordByUser"; // asks for the old password itself
    private static final String HANDLER = "org.wso2.carbon.server.admin.module.handler.";

    private static final long DELETION_MILLIS = 50;
    private static final int MOST_NAMES = 100; // MaxUserNameListLength of user-mgt.xml
    private final transient Semaphore deleting = new Semaphore(1);
    private final String name;
    private final String namespace;

    public AdminServices(Node node) {
        super(node);
        name = node.settings().greg ? "RemoteUserStoreManagerService" : "UserAdmin";
        namespace = node.settings().greg ? "http://service.ws.um.carbon.wso2.org" : "http://org.apache.axis2/xsd";
    }

    @Override
    protected void answer(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        String[] given = credentials(request);
        if (!path.equals("/services/" + name)) {
            Page.send(response, 500, "Error 500", "<p>No such service here.</p>");
        } else if (String.valueOf(request.getQueryString()).matches("(?i)(wsdl2?|xsd)\\b.*")) {
            Page.send(response, 403, "Error 403", "<p>The descriptions of admin services are hidden.</p>");
        } else if (given == null) {
            illegal(request);
            response.setHeader("WWW-Authenticate", "Basic realm=\"" + node.settings().productName + "\"");
            Page.send(response, 401, "Error 401", "");
        } else if (!request.getMethod().equals("POST")) {
            Page.send(response, 500, "Error 500", "<p>POST a SOAP message.</p>");
        } else {
            call(given[0], given[1], request, response);
        }
    }

    private void illegal(HttpServletRequest request) {
        Log.warn(HANDLER + "AuthenticationHandler", "Illegal access attempt from IP address " + request.getRemoteAddr()
                + " while trying to authenticate access to service " + name);
    }

    /** User and password of the header; null without one. */
    private static String[] credentials(HttpServletRequest request) {
        String header = request.getHeader("Authorization");
        if (header == null || !header.regionMatches(true, 0, "Basic ", 0, 6)) {
            return null;
        }
        try {
            String[] given = new String(Base64.getDecoder().decode(header.substring(6).trim()), StandardCharsets.UTF_8).split(":", 2);
            return given.length == 2 ? given : null;
        } catch (IllegalArgumentException e) {
            return null;
        }
    }

    private void call(String caller, String password, HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        String body = new String(Streams.readAll(request.getInputStream()), StandardCharsets.UTF_8);
        try {
            Element operation = (Element) Xml.first(Xml.parse(body).getDocumentElement(), "Body").getElementsByTagNameNS(
                    namespace, "*").item(0);
            if (!name.equals("UserAdmin") || !operation.getLocalName().equals(OWN_CHANGE)) {
                if (!node.users().authenticate(caller, password)) {
                    illegal(request);
                    fault(response, "Access Denied. Authentication failed - Invalid credentials provided.");
                    return;
                }
                // The product asks last whether it is a worker: behind the operation and who sends it (handlers of OpPhase).
                if (operation != null && node.settings().worker) {
                    Log.error(HANDLER + "AuthorizationHandler", "Invoking admin services on worker node is forbidden...");
                    response.setStatus(202); // the handler sets 403, and its servlet this one, as nobody has answered
                    return;
                }
                if (!node.users().authorized(caller, "/permission/admin/configure/security")) {
                    fault(response, "Access Denied.");
                    return;
                }
            }
            List<String> values = name.equals("UserAdmin") ? administer(operation, caller) : perform(operation);
            if (values == null) {
                response.setStatus(202); // operations without a result are in-only
                return;
            }
            answer(response, 200, namespace, "ns:" + operation.getLocalName() + "Response", "ns:return", values);
        } catch (SAXException | NullPointerException e) {
            fault(response, "The message is not a SOAP request");
        } catch (SQLException e) {
            fault(response, String.valueOf(e.getMessage()));
        }
    }

    private static void fault(HttpServletResponse response, String message) throws IOException {
        answer(response, 500, ENVELOPE, "soapenv:Fault", "faultstring", Literals.list(message));
    }

    /** Does what a message to UserAdmin asks; null where there is nothing to return. */
    private List<String> administer(Element in, String caller) throws SQLException {
        Users users = node.users();
        String user = Xml.text(in, "userName", "");
        switch (in.getLocalName()) {
            case "addUser":
                users.addUser(user, text(in, "password"), texts(in, "roles"));
                return null;
            case "deleteUser":
                alone(() -> users.deleteUser(user));
                return null;
            case "changePassword":
                if (user.equalsIgnoreCase(caller)) {
                    throw new SQLException("An attempt to change password with out providing old password");
                }
                users.changePassword(user, text(in, "newPassword"));
                return null;
            case OWN_CHANGE:
                if (!users.authenticate(user, text(in, "oldPassword"))) {
                    throw new SQLException("Error while updating password. Wrong old credential provided ");
                }
                users.changePassword(user, text(in, "newPassword"));
                return null;
            case "getRolesOfCurrentUser":
                return users.rolesOf(caller);
            case "listUsers":
                return listed(in, "limit");
            default:
                throw unknown(in);
        }
    }

    private List<String> listed(Element in, String limit) throws SQLException {
        int most = Integer.parseInt(Xml.text(in, limit, "0"));
        return most == 0 ? Literals.list() : node.users().list(text(in, "filter"), most < 0 ? MOST_NAMES : Math.min(most, MOST_NAMES));
    }

    private SQLException unknown(Element in) {
        return new SQLException("The endpoint reference (EPR) for the Operation not found is /services/" + name
                + " and the WSA Action = urn:" + in.getLocalName());
    }

    /** Does what a message to RemoteUserStoreManagerService asks; null where there is nothing to return. */
    private List<String> perform(Element in) throws SQLException {
        Users users = node.users();
        String user = Xml.text(in, "userName", "");
        String role = Xml.text(in, "roleName", "");
        switch (in.getLocalName()) {
            case "addUser":
                users.addUser(user, text(in, "credential"), texts(in, "roleList"));
                break;
            case "deleteUser":
                alone(() -> users.deleteUser(user));
                break;
            case "addRole":
                users.addRole(role);
                for (String member : texts(in, "userList")) {
                    users.updateRolesOf(member, Literals.list(), Literals.list(role));
                }
                for (Element permission : Xml.all(in, "permissions")) {
                    users.permit(role, Xml.text(permission, "resourceId", ""));
                }
                break;
            case "deleteRole":
                alone(() -> users.deleteRole(role));
                break;
            case "updateRoleListOfUser":
                users.updateRolesOf(user, texts(in, "deletedRoles"), texts(in, "newRoles"));
                break;
            case "updateUserListOfRole":
                for (String member : texts(in, "deletedUsers")) {
                    users.updateRolesOf(member, Literals.list(role), Literals.list());
                }
                for (String member : texts(in, "newUsers")) {
                    users.updateRolesOf(member, Literals.list(), Literals.list(role));
                }
                break;
            case "updateCredential":
            case "updateCredentialByAdmin":
                users.changePassword(user, text(in, "newCredential"));
                break;
            default:
                return ask(in, user, role);
        }
        return null;
    }

    /** Two deletions at once get into each other's way in the real database (facts 12.3); here the second always does. */
    private void alone(Sql.Work deletion) throws SQLException {
        if (!deleting.tryAcquire()) {
            throw new SQLException("Deadlock found when trying to get lock; try restarting transaction");
        }
        try {
            Thread.sleep(DELETION_MILLIS);
            deletion.run();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            deleting.release();
        }
    }

    private List<String> ask(Element in, String user, String role) throws SQLException {
        Users users = node.users();
        switch (in.getLocalName()) {
            case "isExistingUser":
                return Literals.list(String.valueOf(users.exists(user)));
            case "isExistingRole":
                return Literals.list(String.valueOf(users.roleExists(role)));
            case "authenticate":
                return Literals.list(String.valueOf(users.authenticate(user, text(in, "credential"))));
            case "getRoleNames":
                return users.roleNames();
            case "getRoleListOfUser":
                return users.rolesOf(user);
            case "getUserListOfRole":
                return users.usersOf(role);
            case "listUsers":
                return listed(in, "maxItemLimit");
            default:
                throw unknown(in);
        }
    }

    /** A value as it stands in the message: passwords may begin or end with a space. */
    private static String text(Element in, String name) {
        Element found = Xml.first(in, name);
        return found == null ? "" : found.getTextContent();
    }

    private static List<String> texts(Element in, String name) {
        return Xml.all(in, name).stream().map(e -> e.getTextContent().trim()).filter(t -> !t.isEmpty()).collect(Collectors.toList());
    }

    private static void answer(HttpServletResponse response, int status, String namespace, String outer, String inner,
            List<String> values) throws IOException {
        Document document = Xml.empty();
        Element envelope = document.createElementNS(ENVELOPE, "soapenv:Envelope");
        document.appendChild(envelope);
        Element body = document.createElementNS(ENVELOPE, "soapenv:Body");
        envelope.appendChild(body);
        Element result = document.createElementNS(namespace, outer);
        body.appendChild(result);
        for (String value : values) {
            Element item = inner.contains(":") ? document.createElementNS(namespace, inner) : document.createElement(inner);
            item.setTextContent(value);
            result.appendChild(item);
        }
        response.setStatus(status);
        response.setContentType("text/xml;charset=UTF-8");
        response.getWriter().write("<?xml version='1.0' encoding='UTF-8'?>" + Xml.write(envelope));
    }
}
