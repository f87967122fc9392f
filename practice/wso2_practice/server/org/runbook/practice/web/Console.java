package org.runbook.practice.web;

import java.io.IOException;
import java.sql.SQLException;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import javax.servlet.http.HttpSession;
import org.runbook.practice.Literals;
import org.runbook.practice.users.Users;

/**
 * The root context: the management console, and a redirect to its login page for every path that nothing else serves
 * (facts 10.1: there is no 404 at the root). A worker has no console.
 */
public final class Console extends Surface {
    private static final long serialVersionUID = 1L;
    private static final String LOGIN = "/carbon/admin/login.jsp";
    private final transient Deployer deployer;

    public Console(Node node, Deployer deployer) {
        super(node);
        this.deployer = deployer;
    }

    @Override
    protected void answer(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (node.settings().worker) {
            notFound(response);
            return;
        }
        HttpSession session = request.getSession(false);
        Object user = session == null ? null : session.getAttribute("console-user");
        switch (path) {
            case "/":
                response.sendRedirect(node.settings().greg ? "/store/" : "/carbon");
                break;
            case "/registry":
                Page.send(response, 405, "Error 405", "");
                break;
            case "/registry/atom":
                Page.send(response, 401, "Error 401", "");
                break;
            case "/fileupload/":
                Page.send(response, 406, "Error 406", "");
                break;
            case "/filedownload":
                Page.send(response, 500, "Error 500", "");
                break;
            case "/carbon":
                response.sendRedirect("/carbon/");
                break;
            case "/carbon/":
                response.sendRedirect("/carbon/admin/index.jsp");
                break;
            case LOGIN:
                request.getSession();
                Page.send(response, 200, "Management console",
                        Page.form("../admin/login_action.jsp", Literals.list("username", "password"), Literals.map()));
                break;
            case "/carbon/admin/login_action.jsp":
                signIn(request, response);
                break;
            case "/carbon/admin/logout_action.jsp":
                if (session != null) {
                    session.removeAttribute("console-user");
                }
                response.sendRedirect(LOGIN);
                break;
            case "/carbon/admin/index.jsp":
                if (user == null) {
                    response.sendRedirect(LOGIN);
                } else {
                    overview(String.valueOf(user), response);
                }
                break;
            default:
                response.sendRedirect(LOGIN);
                break;
        }
    }

    private void signIn(HttpServletRequest request, HttpServletResponse response) throws IOException, SQLException {
        String user = String.valueOf(request.getParameter("username"));
        boolean known = node.users().authenticate(user, String.valueOf(request.getParameter("password")))
                && node.users().authorized(user, Users.LOGIN);
        if (known) {
            request.getSession().setAttribute("console-user", user);
        }
        response.sendRedirect(known ? "/carbon/admin/index.jsp?loginStatus=true" : LOGIN + "?loginStatus=false");
    }

    private void overview(String user, HttpServletResponse response) throws IOException {
        StringBuilder body = new StringBuilder("<p>Signed in as <b class=\"user\">" + Page.escape(user) + "</b> "
                + Page.link("/carbon/admin/logout_action.jsp", "Sign out") + "</p>\n<h2>Members</h2><ul>");
        node.cluster().memberNames().forEach(member -> body.append("<li>").append(Page.escape(member)).append("</li>"));
        body.append("</ul>\n<h2>Web applications</h2><ul>");
        deployer.names().forEach(name -> body.append("<li>").append(Page.escape(name)).append("</li>"));
        Page.send(response, 200, "WSO2 Management Console", body + "</ul>");
    }
}
