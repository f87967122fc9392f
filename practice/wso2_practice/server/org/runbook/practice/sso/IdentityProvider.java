package org.runbook.practice.sso;

import java.io.IOException;
import java.io.UnsupportedEncodingException;
import java.net.URLEncoder;
import java.security.GeneralSecurityException;
import java.sql.SQLException;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.UUID;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Log;
import org.runbook.practice.cluster.SharedMap;
import org.runbook.practice.conf.Json;
import org.runbook.practice.conf.Xml;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;
import org.runbook.practice.web.Surface;
import org.w3c.dom.Element;

/**
 * /samlsso and /commonauth: the identity provider that every G-Reg node is (facts 6). Its sessions belong to the
 * cookie commonAuthId and are shared inside a cluster domain; its service providers come from sso-idp-config.xml.
 */
public final class IdentityProvider extends Surface {
    private static final long serialVersionUID = 1L;
    private static final String PROVIDER = "org.wso2.carbon.identity.sso.saml.validators.SPInitSSOAuthnRequestValidator";
    private static final int TOKEN_SECONDS = 7200;
    private static final String NOTIFICATION = "/authenticationendpoint/samlsso_notification.do";

    private final transient Map<String, String> acs = new LinkedHashMap<>();
    private final transient SharedMap requests;
    private final transient SharedMap sessions;
    private final transient SharedMap ended;
    private final String entity;

    public IdentityProvider(Node node) {
        super(node);
        requests = node.cluster().map("AuthenticationContextCache");
        sessions = node.cluster().map("AppAuthFrameworkSessionContextCache");
        ended = node.cluster().map("SAMLSSOParticipantCache");
        entity = Xml.text(node.settings().read("identity.xml"), "SSOService/EntityId", "localhost");
        for (Element provider : Xml.all(node.settings().read("identity/sso-idp-config.xml"),
                "ServiceProviders/ServiceProvider")) {
            String issuer = Xml.text(provider, "Issuer", "");
            acs.put(issuer, Xml.text(provider, "AssertionConsumerService", ""));
            Log.info("org.wso2.carbon.identity.sso.saml.FileBasedConfigManager",
                    "A SSO Service Provider is registered for : " + issuer);
        }
    }

    @Override
    protected void answer(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (path.startsWith("/commonauth")) {
            if (field(request, "username") != null && field(request, "password") != null) {
                signIn(request, response); // the product's servlet does the same by GET as by POST
            } else {
                askWhoIsThere(request, response);
            }
        } else if (request.getParameter("SAMLRequest") != null) {
            receive(request, response);
        } else if (request.getParameter("sessionDataKey") != null) {
            conclude(request, response);
        } else if (request.getParameter("spEntityID") != null) {
            begin(fieldsOf("issuer", request.getParameter("spEntityID"), "relayState", request.getParameter("RelayState")),
                    request, response); // nobody looks here whether there is such a provider (facts 12.3)
        } else {
            refuse(response);
        }
    }

    /** A SAML request from an application: remembered under a key, then on to /commonauth. */
    private void receive(HttpServletRequest request, HttpServletResponse response) throws IOException {
        Element message;
        try {
            message = Saml.decode(request.getParameter("SAMLRequest"));
        } catch (IOException e) {
            refuse(response);
            return;
        }
        if (message.getLocalName().equals("LogoutRequest")) {
            signOut(message, request, response);
            return;
        }
        begin(fieldsOf("issuer", Xml.text(message, "Issuer", ""), "request", message.getAttribute("ID"),
                "relayState", request.getParameter("RelayState"),
                "SSOAuthSessionID", request.getParameter("SSOAuthSessionID")), request, response);
    }

    private void begin(Map<String, Object> context, HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        context.putAll(fields("username", request.getParameter("username"), "password", request.getParameter("password")));
        String key = UUID.randomUUID().toString();
        requests.put(key, context);
        response.sendRedirect(ownHost() + "/commonauth?sessionDataKey=" + key + "&type=samlsso");
    }

    /** A field of this request, or on the way from /samlsso of the one that began: the product keeps them all (facts 12.7). */
    private String field(HttpServletRequest request, String name) {
        Map<String, Object> begun = request.getParameter("type") == null ? null : requests.get(request.getParameter("sessionDataKey"));
        String sent = request.getParameter(name);
        return sent == null && begun != null ? (String) begun.get(name) : sent;
    }

    private void refuse(HttpServletResponse response) throws IOException {
        response.sendRedirect(ownHost() + NOTIFICATION + "?status="
                + encode("Error when processing the authentication request!") + "&statusMsg="
                + encode("Please try login again."));
    }

    /** /samlsso names this node's own host and port, whatever host it was asked under (facts 10.5 and 12.3). */
    private String ownHost() {
        return "https://" + node.settings().hostName + ":" + node.settings().publicPort(true);
    }

    /** Whoever has a session goes on, anyone else is shown the login page. */
    private void askWhoIsThere(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String key = request.getParameter("sessionDataKey");
        Map<String, Object> context = requests.get(key);
        if (context == null) {
            response.sendRedirect("/authenticationendpoint/retry.do");
            return;
        }
        Map<String, Object> session = sessions.get(cookie(request, "commonAuthId"));
        if (session != null) {
            authenticated(key, context, session);
            response.sendRedirect("/samlsso?sessionDataKey=" + key);
            return;
        }
        request.getSession();
        response.sendRedirect(loginPage(response, key, context, ""));
    }

    private static String loginPage(HttpServletResponse response, String key, Map<String, Object> context, String more) {
        String issuer = encode(String.valueOf(context.get("issuer")));
        return response.encodeRedirectURL("/sso/login") + "?sessionDataKey=" + key + "&relyingParty=" + issuer
                + "&type=samlsso&sp=" + issuer + "&isSaaSApp=true&authenticators=BasicAuthenticator%3ALOCAL" + more;
    }

    /** The login form comes back: a right password opens the session that signs in everywhere on this host. */
    private void signIn(HttpServletRequest request, HttpServletResponse response) throws IOException, SQLException {
        String key = request.getParameter("sessionDataKey");
        Map<String, Object> context = requests.get(key);
        String user = field(request, "username");
        if (context == null) {
            response.sendRedirect("/authenticationendpoint/retry.do");
            return;
        }
        if (!node.users().authenticate(user, field(request, "password"))) {
            response.sendRedirect(loginPage(response, key, context, "&authFailure=true&authFailureMsg=login.fail.message"));
            return;
        }
        String id = UUID.randomUUID().toString();
        Map<String, Object> session = fieldsOf("user", user, "index", UUID.randomUUID().toString());
        sessions.put(id, session);
        setCookie(response, "commonAuthId", id, -1);
        authenticated(key, context, session);
        response.sendRedirect("/samlsso?sessionDataKey=" + key);
    }

    private void authenticated(String key, Map<String, Object> context, Map<String, Object> session) {
        Map<String, Object> done = new LinkedHashMap<>(context);
        done.put("user", session.get("user"));
        done.put("index", session.get("index"));
        requests.put(key, done);
    }

    /** Back from /commonauth: the signed response, in a form that posts itself to the registered address. */
    private void conclude(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String key = request.getParameter("sessionDataKey");
        Map<String, Object> context = requests.get(key);
        if (context == null || context.get("user") == null) {
            response.sendRedirect(ownHost() + "/authenticationendpoint/retry.do");
            return;
        }
        requests.remove(key);
        String issuer = String.valueOf(context.get("issuer"));
        if (!acs.containsKey(issuer)) {
            Log.warn(PROVIDER, "A Service Provider with the Issuer '" + issuer + "' is not registered."
                    + " Service Provider should be registered in advance.");
            refuse(response);
            return;
        }
        String index = String.valueOf(context.get("index"));
        setToken(response, index, TOKEN_SECONDS);
        try {
            String message = Saml.response(node.keys(), entity, (String) context.get("request"), issuer,
                    acs.get(issuer), String.valueOf(context.get("user")), index);
            Page.post(response, acs.get(issuer), fields("SAMLResponse", message, "RelayState",
                    (String) context.get("relayState"), "SSOAuthSessionID", (String) context.get("SSOAuthSessionID")));
        } catch (GeneralSecurityException e) {
            throw new IOException(e);
        }
    }

    /** Single logout: the session ends here and in every application that it opened. */
    private void signOut(Element message, HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        String index = Xml.text(message, "SessionIndex", String.valueOf(cookie(request, "samlssoTokenId")));
        ended.put(index, fieldsOf("ended", "true"));
        sessions.copy().forEach((id, session) -> {
            if (index.equals(Json.map(session).get("index"))) {
                sessions.remove(id);
            }
        });
        setToken(response, "", -TOKEN_SECONDS);
        String issuer = Xml.text(message, "Issuer", "");
        String target = acs.get(issuer);
        if (target == null) {
            refuse(response);
            return;
        }
        try {
            Page.post(response, target, fields("SAMLResponse",
                    Saml.logoutResponse(node.keys(), entity, message.getAttribute("ID"), target),
                    "RelayState", request.getParameter("RelayState")));
        } catch (GeneralSecurityException e) {
            throw new IOException(e);
        }
    }

    /** With Expires and without Max-Age, which Tomcat's own cookies do not do (facts 12.3). */
    private static void setToken(HttpServletResponse response, String value, int seconds) {
        response.addHeader("Set-Cookie", "samlssoTokenId=" + value + "; Expires=" + DateTimeFormatter.RFC_1123_DATE_TIME
                .format(ZonedDateTime.now(ZoneOffset.UTC).plusSeconds(seconds)) + "; Secure; HttpOnly");
    }

    private static Map<String, Object> fieldsOf(String... namesAndValues) {
        return new LinkedHashMap<>(fields(namesAndValues));
    }

    private static String encode(String text) {
        try {
            return URLEncoder.encode(text, "UTF-8");
        } catch (UnsupportedEncodingException e) {
            throw new IllegalStateException(e);
        }
    }
}
