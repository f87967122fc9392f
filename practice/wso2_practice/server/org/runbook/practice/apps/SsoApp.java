package org.runbook.practice.apps;

import java.io.IOException;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.conf.Json;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;

/** /sso: the login page of the identity provider, self-registration, and the pages of account recovery. */
public final class SsoApp extends Application {
    private static final long serialVersionUID = 1L;
    private final transient Map<String, Object> config;

    public SsoApp(Node node) throws IOException {
        super(node, "sso");
        config = Json.readFile(folder.resolve("config/sso.json"));
    }

    @Override
    List<String> look() {
        return Literals.list("/sso/views/css/practice.css", "/sso/views/themes/theme-greg/css/practice.css",
                "/sso/views/js/practice.js");
    }

    @Override
    boolean perform(String what, String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        switch (what) {
            case "login":
                return login(request, response);
            case "register":
                return register(request, response);
            case "registration-form":
                return registrationForm(request.getParameter("relyingParty"), response);
            default:
                return false;
        }
    }

    private boolean login(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String key = request.getParameter("sessionDataKey");
        if (key == null) {
            return false;
        }
        String failed = request.getParameter("authFailure") == null ? ""
                : "<p class=\"error\">Login failed. Check the user name and the password.</p>";
        show(response, 200, "Sign in", failed + Page.form("../commonauth", Literals.list("username", "password"),
                fields("sessionDataKey", key)));
        return true;
    }

    /** The form is sent by a script to /sso/register; without a relying party the page fails (facts 12.2). */
    private boolean registrationForm(String party, HttpServletResponse response) throws IOException {
        if (party == null) {
            return false;
        }
        show(response, 200, "Register", "<form id=\"registerForm\" data-register>\n"
                + "<p><label>username <input name=\"reg-username\" id=\"reg-username\"></label></p>\n"
                + "<p><label>password <input name=\"reg-password\" id=\"reg-password\" type=\"password\"></label></p>\n"
                + "<p><label>again <input name=\"password2\" id=\"reg-password2\" type=\"password\"></label></p>\n"
                + "<input type=\"hidden\" name=\"reg-claims\" value=\"{}\">\n"
                + "<input type=\"hidden\" name=\"action\" value=\"register\">\n"
                + "<input type=\"hidden\" name=\"relyingParty\" value=\"" + Page.escape(party.replaceAll("\\W", "")) + "\">\n"
                + "<button type=\"submit\" id=\"registrationSubmit\">Register</button>\n</form>\n<p data-told></p>");
        return true;
    }

    /** Makes a user for anyone who asks, with the roles that sso.json gives at the application they come from. */
    private boolean register(HttpServletRequest request, HttpServletResponse response) throws IOException {
        if (!"register".equals(request.getParameter("action"))) {
            return false;
        }
        String user = request.getParameter("reg-username");
        String password = request.getParameter("reg-password");
        String roles = "publisher".equals(request.getParameter("relyingParty")) ? "authorizedRolePublisher"
                : "authorizedRoleStore";
        try {
            if (user == null || !user.matches("\\S{3,30}") || password == null || !password.matches("\\S{5,30}")) {
                throw new SQLException("Invalid:The user name or the password is not acceptable");
            }
            node.users().addUser(user, password, Literals.list());
            Tenant.addPrivateRole(node.users(), user);
            List<String> given = new ArrayList<>();
            for (Object role : Json.list(Json.map(config.get("registerPermissions")).get(roles))) {
                if (node.users().roleExists(String.valueOf(role))) {
                    given.add(String.valueOf(role));
                }
            }
            node.users().updateRolesOf(user, Literals.list(), given);
            say(response, "false", "The user is added");
        } catch (SQLException e) {
            Log.error("JAGGERY.views.register:jag", e.getMessage());
            say(response, "true", e.getMessage().replaceFirst("^\\w+:", ""));
        }
        return true;
    }

    private static void say(HttpServletResponse response, String error, String message) throws IOException {
        response.setContentType("text/html;charset=UTF-8"); // JSON, but not said so: its own page parses it
        response.getWriter().write(Json.write(Literals.map("error", error, "msg", message)));
    }
}
