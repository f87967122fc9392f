package org.runbook.practice.web;

import java.io.IOException;
import java.io.UnsupportedEncodingException;
import java.net.URLDecoder;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.Map;
import javax.servlet.http.Cookie;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Log;

/** A servlet of this server: a broken database is a 500 with a line in the log. */
public abstract class Surface extends HttpServlet {
    private static final long serialVersionUID = 1L;
    protected final transient Node node;

    protected Surface(Node node) {
        this.node = node;
    }

    /** Answers one request; {@code path} is the decoded path below the context, "/" at least. */
    protected abstract void answer(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException;

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        request.setCharacterEncoding("UTF-8");
        String info = request.getPathInfo();
        String path = request.getServletPath() + (info == null ? "" : info);
        if (!contextMatches(request)) {
            Page.send(response, 500, "Error 500", "<p>java.lang.IllegalStateException: Failed to match context path</p>");
            return;
        }
        if (path.isEmpty()) {
            response.sendRedirect(request.getServletContext().getContextPath() + "/");
            return;
        }
        try {
            answer(path, request, response);
        } catch (SQLException e) {
            Log.error(getClass().getName(), "Cannot answer " + path, e);
            Page.send(response, 500, "Error 500", "<p>The database refused. The log of this node says more.</p>");
        }
    }

    /**
     * Whether the raw path starts with this context. The real server (Tomcat 7) looks for the context in the path
     * without taking path parameters out, and answers 500 to /store/..;/publisher/ and /store;a/ (facts 10.1).
     */
    private static boolean contextMatches(HttpServletRequest request) {
        String uri = request.getRequestURI();
        String context = request.getServletContext().getContextPath();
        if (context.isEmpty()) {
            return true;
        }
        for (int slash = uri.indexOf('/', 1); slash >= 0; slash = uri.indexOf('/', slash + 1)) {
            if (normalised(uri.substring(0, slash)).equals(context)) {
                return true;
            }
        }
        return normalised(uri).equals(context);
    }

    private static String normalised(String raw) {
        try {
            String path = URLDecoder.decode(raw.replace("+", "%2B"), "UTF-8").replaceAll("/+", "/");
            return Paths.get(path).normalize().toString();
        } catch (UnsupportedEncodingException e) {
            throw new IllegalStateException(e);
        }
    }

    protected static void notFound(HttpServletResponse response) throws IOException {
        Page.send(response, 404, "Error 404", "<p>The page you are looking for is not here.</p>");
    }

    protected static String cookie(HttpServletRequest request, String name) {
        if (request.getCookies() != null) {
            for (Cookie cookie : request.getCookies()) {
                if (cookie.getName().equals(name)) {
                    return cookie.getValue();
                }
            }
        }
        return null;
    }

    /** Sets a cookie for this host only: Secure, HttpOnly and without a Path, as the identity provider does. */
    protected static void setCookie(HttpServletResponse response, String name, String value, int seconds) {
        Cookie cookie = new Cookie(name, value);
        cookie.setSecure(true);
        cookie.setHttpOnly(true);
        cookie.setMaxAge(seconds);
        response.addCookie(cookie);
    }

    protected static Map<String, String> fields(String... namesAndValues) {
        Map<String, String> fields = new LinkedHashMap<>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            if (namesAndValues[i + 1] != null) {
                fields.put(namesAndValues[i], namesAndValues[i + 1]);
            }
        }
        return fields;
    }
}
