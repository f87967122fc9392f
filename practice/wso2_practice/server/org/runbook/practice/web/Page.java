package org.runbook.practice.web;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.conf.Json;
import org.runbook.practice.conf.Settings;

/** What every page of the server shares: a title, a body and the footer that says what this is. */
public final class Page {
    private static String product = "";

    private Page() {
    }

    public static void signedBy(Settings settings) {
        product = settings.productName + " " + settings.version;
    }

    public static String escape(String text) {
        return text == null ? "" : text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
                .replace("\"", "&quot;").replace("'", "&#39;");
    }

    static String html(String title, String head, String body) {
        return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + escape(title)
                + "</title>" + head + "<style>body{font:16px/1.5 sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}"
                + "footer{margin-top:3rem;border-top:1px solid #999;color:#555;font-size:.85rem}</style></head>\n<body>\n"
                + "<h1>" + escape(title) + "</h1>\n" + body + "\n<footer>" + escape(product)
                + ": a practice server, not the product of WSO2.</footer>\n</body></html>\n";
    }

    /** The lines of a page's head that load these styles and scripts; the scripts run when the page is there. */
    public static String head(List<String> files) {
        StringBuilder head = new StringBuilder();
        for (String file : files) {
            head.append(file.endsWith(".css") ? "<link rel=\"stylesheet\" href=\"" + escape(file) + "\">"
                    : "<script defer src=\"" + escape(file) + "\"></script>");
        }
        return head.toString();
    }

    public static void send(HttpServletResponse response, int status, String title, String body) throws IOException {
        send(response, status, title, "", body);
    }

    public static void send(HttpServletResponse response, int status, String title, String head, String body)
            throws IOException {
        response.setStatus(status);
        response.setContentType("text/html;charset=UTF-8");
        response.getWriter().write(html(title, head, body));
    }

    public static void json(HttpServletResponse response, int status, Object value) throws IOException {
        response.setStatus(status);
        response.setContentType("application/json;charset=UTF-8");
        response.getWriter().write(Json.write(value));
    }

    /** A form that a browser sends off by itself: how SAML messages travel. */
    public static void post(HttpServletResponse response, String action, Map<String, String> fields) throws IOException {
        StringBuilder form = new StringBuilder("<p>You are being redirected. If nothing happens, press the button.</p>\n"
                + "<form method=\"post\" action=\"" + escape(action) + "\">\n");
        fields.forEach((name, value) -> form.append("<input type=\"hidden\" name=\"").append(escape(name))
                .append("\" value=\"").append(escape(value)).append("\">\n"));
        form.append("<button type=\"submit\">POST</button>\n</form>\n<script>document.forms[0].submit();</script>");
        send(response, 200, "Single sign-on", form.toString());
    }

    /** A form for a person: the named fields (password is hidden as it is typed), and hidden ones. */
    public static String form(String action, List<String> asked, Map<String, String> hidden) {
        StringBuilder form = new StringBuilder("<form method=\"post\" action=\"" + escape(action) + "\">\n");
        hidden.forEach((name, value) -> form.append("<input type=\"hidden\" name=\"").append(escape(name))
                .append("\" value=\"").append(escape(value)).append("\">\n"));
        for (String name : asked) {
            form.append("<p><label>").append(name).append(" <input name=\"").append(name).append("\" id=\"").append(name)
                    .append("\" type=\"").append(name.equals("password") ? name : "text").append("\"></label></p>\n");
        }
        return form.append("<button type=\"submit\">Send</button>\n</form>").toString();
    }

    public static String link(String address, String text) {
        return "<a href=\"" + escape(address) + "\">" + escape(text) + "</a>";
    }
}
