package org.runbook.practice.apps;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.cert.X509Certificate;
import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.UUID;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import javax.servlet.http.HttpSession;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.Streams;
import org.runbook.practice.cluster.SharedMap;
import org.runbook.practice.conf.Json;
import org.runbook.practice.sso.Saml;
import org.runbook.practice.users.Users;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;
import org.w3c.dom.Element;

/**
 * What Store and Publisher have in common: sign-in by SAML or by password, sign-out, and the holes of the real ones:
 * the password endpoints stay open under single sign-on and ask only for the console's login permission (facts 10.2).
 */
public abstract class JaggeryApp extends Application {
    private static final long serialVersionUID = 1L;
    private static final String USER = "user";
    private static final String INDEX = "sessionIndex";
    private static final Map<String, String> COMMON = Literals.map("sso-login", "sso-auth-login-controller.jag",
            "sso-logout", "sso-auth-logout-controller.jag", "basic-auth-logout", "basic-auth-logout-controller.jag",
            "basic-authenticator", "basic-authenticator.jag", "splash", "splash.jag");
    protected final transient Map<String, Object> config;
    private final transient SharedMap ended;
    private final String issuer;

    JaggeryApp(Node node, String name) throws IOException {
        super(node, name);
        config = Json.readFile(folder.resolve("config/" + name + ".json"));
        issuer = Json.text(config, "authentication.methods.sso.attributes.issuer", name);
        ended = node.cluster().map("SAMLSSOParticipantCache");
    }

    /** What the application does first on an empty registry: its roles, and its tenant file frozen (golden-run 7). */
    public abstract void firstBoot() throws SQLException, IOException;

    /** A page below /pages, behind the common ones; false where there is none of that name. */
    abstract boolean page(String page, String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException;

    /** What the scripts do that the other application does not have. */
    abstract boolean own(String what, String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException;

    /** Where a person stands who has just signed in; {@code relayState} came back with the assertion. */
    abstract String afterSignIn(String relayState);

    /** What happens to a user who is seen here for the first time. */
    abstract void register(String user, boolean bySso) throws SQLException;

    String loginPermission() {
        return "/permission/admin/enterprisestore/apps/" + name + "/features/app/login";
    }

    @Override
    boolean perform(String what, String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        switch (what) {
            case "login":
                response.sendRedirect("/" + name + "/pages/" + (sso() ? "sso-login" : "basic-auth-login"));
                break;
            case "sso-login":
                startSignIn(request, response);
                break;
            case "acs":
                return receiveAssertion(request, response);
            case "logout":
                response.sendRedirect("/" + name + "/pages/" + (sso() ? "sso-logout" : "basic-auth-logout"));
                break;
            case "sso-logout":
                signOut(request, response);
                break;
            case "basic-auth-logout":
                request.getSession().invalidate();
                response.sendRedirect("/" + name);
                break;
            case "logout-api":
                request.getSession().invalidate();
                Page.json(response, 200, Literals.map("data", Literals.map("message", "The user is signed out")));
                break;
            case "basic-auth-login":
                show(response, 200, "Sign in to the " + name, Page.form("/" + name
                    + "/pages/basic-authenticator", Literals.list("username", "password"), Literals.map()));
                break;
            case "authenticate":
            case "basic-authenticator":
                return basic(what.equals("authenticate"), request, response);
            case "pages":
                return path.startsWith("/pages/") && pages(path.substring("/pages/".length()), request, response);
            default:
                return own(what, path, request, response);
        }
        return true;
    }

    private boolean pages(String page, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (page.equals("basic-auth-login")) {
            return perform(page, "", request, response); // its script fails when it is called by itself
        } else if (COMMON.containsKey(page)) {
            include("/extensions/app/" + name + "-common/pages/" + COMMON.get(page), request, response);
            return true;
        }
        return page(page, user(request), request, response);
    }

    boolean sso() {
        return Json.text(config, "authentication.activeMethod", "sso").equals("sso");
    }

    /** A value of the application's JSON with %https.host% filled in from HostName and proxyPort (facts 1.11). */
    String configured(String path) {
        return Json.text(config, path, "").replace("%https.host%", node.settings().httpsHost());
    }

    private void startSignIn(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String provider = configured("authentication.methods.sso.attributes.identityProviderURL");
        Page.post(response, provider, fields("SAMLRequest", Saml.request("AuthnRequest", issuer, provider, null, null),
                "RelayState", "/" + name, "SSOAuthSessionID", UUID.randomUUID().toString()));
    }

    private boolean receiveAssertion(HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (request.getParameter("SAMLResponse") == null) {
            return false;
        }
        Element message;
        try {
            message = Saml.decode(request.getParameter("SAMLResponse"), !practice("SafeParser"));
        } catch (IOException e) {
            Log.error("JAGGERY.controllers.acs:jag", e.getMessage(), e);
            Page.send(response, 500, "Error 500", "<p>That is not a SAML message.</p>");
            return true;
        }
        if (message.getLocalName().equals("LogoutResponse")) {
            response.sendRedirect("/" + name);
            return true;
        }
        try {
            signIn(Saml.verify(message, trustedCertificate(), practice("LooseSignature")), request, response);
        } catch (GeneralSecurityException e) { // 200 with an empty body, as measured (golden-run 5)
            Log.error("JAGGERY.controllers.acs:jag", e.getMessage(), e);
        }
        return true;
    }

    private void signIn(Saml.Login login, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (!node.users().authorized(login.user(), loginPermission())) {
            refuse(response, "You do not have permission to login to this application.");
            return;
        }
        register(login.user(), true);
        open(request, login.user(), login.sessionIndex());
        response.sendRedirect(afterSignIn(request.getParameter("RelayState")));
    }

    private X509Certificate trustedCertificate() throws GeneralSecurityException {
        String alias = Json.text(config, "authentication.methods.sso.attributes.identityAlias", "wso2carbon");
        X509Certificate certificate = node.keys().trusted(alias);
        if (certificate == null) {
            throw new GeneralSecurityException("No certificate under the alias '" + alias + "' in the trust store");
        }
        return certificate;
    }

    /** No setting of the product: a switch of this double, so that an attempt can be seen to come out the other way. */
    private boolean practice(String what) {
        return Json.text(config, "authentication.methods.sso.attributes.practice" + what, "").equals("true");
    }

    /**
     * Sign-in by password: whoever may log in at the console gets a session, whatever the application's own roles. The
     * API tells the session and registers the user, the page does neither.
     */
    private boolean basic(boolean api, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        Map<String, String> given = request.getMethod().equals("POST") ? credentials(request) : Literals.map();
        String user = given.getOrDefault("username", "");
        String password = given.getOrDefault("password", "");
        if (user.isEmpty() || password.isEmpty()) {
            return false;
        }
        boolean known = node.users().authenticate(user, password) && node.users().authorized(user, Users.LOGIN);
        if (!known && api) {
            Page.json(response, 401, Literals.map("error", "username/password is incorrect"));
        } else if (!known) {
            refuse(response, "username/password is incorrect");
        } else if (api) {
            register(user, false);
            Page.json(response, 200, Literals.map("data", Literals.map("sessionId", open(request, user, null))));
        } else {
            open(request, user, null);
        }
        return true;
    }

    private static Map<String, String> credentials(HttpServletRequest request) throws IOException {
        if (String.valueOf(request.getContentType()).startsWith("application/json")) {
            Map<String, String> given = new LinkedHashMap<>();
            String body = new String(Streams.readAll(request.getInputStream()), StandardCharsets.UTF_8);
            try {
                Json.map(Json.parse(body)).forEach((key, value) -> given.put(key, String.valueOf(value)));
            } catch (IllegalArgumentException e) {
                return Literals.map();
            }
            return given;
        }
        return fields("username", request.getParameter("username"), "password", request.getParameter("password"));
    }

    private static String open(HttpServletRequest request, String user, String index) {
        HttpSession session = request.getSession();
        session.setAttribute(USER, user);
        session.setAttribute(INDEX, index);
        return session.getId();
    }

    private void signOut(HttpServletRequest request, HttpServletResponse response) throws IOException {
        HttpSession session = request.getSession(false);
        String user = user(request);
        String index = session == null ? null : (String) session.getAttribute(INDEX);
        if (session != null) {
            session.invalidate();
        }
        if (index == null || !sso()) {
            response.sendRedirect("/" + name);
            return;
        }
        String provider = configured("authentication.methods.sso.attributes.identityProviderURL");
        Page.post(response, provider, fields("SAMLRequest", Saml.request("LogoutRequest", issuer, provider, user, index),
                "RelayState", "/" + name));
    }

    /** Who is signed in here; a session that ended at the identity provider ends here too. */
    @Override
    String user(HttpServletRequest request) {
        HttpSession session = request.getSession(false);
        if (session == null) {
            return null;
        }
        if (ended.get((String) session.getAttribute(INDEX)) != null) {
            session.invalidate();
            return null;
        }
        return (String) session.getAttribute(USER);
    }

    /** Whether this user has the application's own permission, which not everyone with a session has. */
    boolean belongs(String user) throws SQLException {
        return user != null && node.users().authorized(user, loginPermission());
    }

    static void refuse(HttpServletResponse response, String why) throws IOException {
        Page.send(response, 401, "Error 401", "<p>" + Page.escape(why) + "</p>");
    }
}
