package org.runbook.practice;

import java.io.IOException;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;

/** /sso: the login page of the identity provider, and self-registration. */
final class SsoApp extends Surface {
    private static final long serialVersionUID = 1L;

    SsoApp(Node node) {
        super(node);
    }

    @Override
    void answer(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (path.equals("/register")) {
            Page.send(response, 200, "Register", Page.form("/sso/register", List.of("username", "password"), Map.of()));
        } else if (!path.equals("/login")) {
            notFound(response);
        } else if (request.getParameter("sessionDataKey") == null) {
            Page.send(response, 500, "Error 500", "<p>The login page was opened without a request.</p>");
        } else {
            request.getSession(); // a session of its own under /sso/, as measured (facts 10.3)
            String failed = request.getParameter("authFailure") == null ? ""
                    : "<p class=\"error\">Login failed. Check the user name and the password.</p>";
            Page.send(response, 200, "Sign in", failed + Page.form("../commonauth", List.of("username", "password"),
                    fields("sessionDataKey", request.getParameter("sessionDataKey"))));
        }
    }
}
