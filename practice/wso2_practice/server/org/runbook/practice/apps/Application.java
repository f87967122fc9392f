package org.runbook.practice.apps;

import java.io.IOException;
import java.nio.file.Path;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Literals;
import org.runbook.practice.conf.Json;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;
import org.runbook.practice.web.StaticFiles;
import org.runbook.practice.web.Surface;

/**
 * An application below jaggeryapps: its URL mappings name scripts, and every script also answers under its own path, past
 * the mappings (facts 12.1). A script opens a session at the first visit, a file does not.
 */
abstract class Application extends Surface {
    private static final long serialVersionUID = 1L;
    protected final String name;
    protected final transient Path folder;
    private final transient UrlMappings mappings;
    private final transient Map<String, Script> scripts;

    Application(Node node, String name) throws IOException {
        super(node);
        this.name = name;
        folder = node.settings().deployment("jaggeryapps/" + name);
        mappings = new UrlMappings(folder.resolve("jaggery.conf"));
        scripts = Script.below(folder);
    }

    /** What a script does by that name; false where the request is not enough for it, and the next rule counts. */
    abstract boolean perform(String what, String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException;

    /** The styles and client-side scripts that its pages load. */
    abstract List<String> look();

    /** Who is signed in here, or null. */
    String user(HttpServletRequest request) {
        return null;
    }

    @Override
    protected void answer(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        String target = mappings.target(path);
        Script script = scripts.get(target == null ? path : target);
        if (script != null) {
            request.getSession();
            run(script, path, request, response);
        } else if (target != null) {
            notFound(response);
        } else {
            StaticFiles.send(folder, path, request, response);
        }
    }

    /** Runs a script of the application as if it had been asked for. */
    void include(String script, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        run(scripts.get(script), script, request, response);
    }

    /** Runs the script of an API, as the first of these extensions has it; false where none has. */
    boolean includeApi(String called, HttpServletRequest request, HttpServletResponse response, String... extensions)
            throws IOException, SQLException {
        for (String extension : extensions) {
            String script = "/extensions/app/" + extension + "/apis/" + called + ".jag";
            if (scripts.containsKey(script)) {
                include(script, request, response);
                return true;
            }
        }
        return false;
    }

    private void run(Script script, String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        boolean signedIn = user(request) != null;
        for (Script.Rule rule : script.rules()) {
            if (rule.fits(signedIn, request.getMethod())) {
                if (rule.does() == null) {
                    tell(rule, script.body(), request, response);
                    return;
                } else if (perform(rule.does(), path, request, response)) {
                    return;
                }
            }
        }
    }

    private void tell(Script.Rule rule, String body, HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        String kind = String.valueOf(rule.kind());
        if (rule.status() == 302) {
            response.sendRedirect(kind.replace("{query}", String.valueOf(request.getQueryString())));
        } else if (kind.equals("none")) {
            response.setStatus(rule.status());
        } else if (kind.equals("json")) {
            Page.json(response, rule.status(), body.isEmpty() ? Literals.map("error", "practice server: " + rule.status())
                    : Json.parse(body));
        } else if (kind.equals("page")) {
            show(response, rule.status(), title(body), body);
        } else {
            Page.send(response, rule.status(), "Error " + rule.status(), "<p>This script of the " + name
                    + " cannot answer such a request.</p>");
        }
    }

    /** A page in the look of this application. */
    void show(HttpServletResponse response, int status, String title, String body) throws IOException {
        Page.send(response, status, title, Page.head(look()), body);
    }

    private static String title(String body) {
        int end = body.indexOf("-->");
        return body.startsWith("<!--") && end > 0 ? body.substring(4, end).trim() : "Practice";
    }
}
