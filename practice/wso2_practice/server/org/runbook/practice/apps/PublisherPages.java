package org.runbook.practice.apps;

import java.util.Collection;
import java.util.List;
import org.runbook.practice.Literals;
import org.runbook.practice.web.Page;

/** The Publisher's pages as a browser walks them: a menu, lists that a script fills, a form that a script sends. */
final class PublisherPages {
    static final List<String> MENU = Literals.list("policy", "restservice", "schema", "soapservice", "swagger", "wadl", "wsdl");
    static final List<String> LOOK = Literals.list("/publisher/themes/default/css/practice.css",
            "/publisher/extensions/app/greg-publisher-defaults/themes/default/css/practice.css",
            "/publisher/themes/default/js/practice.js",
            "/publisher/extensions/app/greg-publisher-defaults/themes/default/js/practice.js",
            "/publisher/extensions/assets/default/themes/default/js/practice.js");

    private PublisherPages() {
    }

    static String menu(String user, String store) {
        StringBuilder menu = new StringBuilder("<p><img src=\"/publisher/themes/default/img/practice.png\" alt=\"\"> "
                + "Signed in as <b class=\"user\">" + Page.escape(user) + "</b> " + Page.link("/publisher/logout", "Sign out")
                + "</p>\n<nav><p>" + Page.link("/publisher/pages/gc-landing", "Start") + " "
                + Page.link("/publisher/pages/advanced-search", "Advanced search") + "</p>\n<ul>");
        for (String type : MENU) {
            menu.append("<li>").append(type).append(": ").append(Page.link("/publisher/assets/" + type + "/list", "list"))
                    .append(" ").append(Page.link("/publisher/assets/" + type + "/create", "add")).append("</li>");
        }
        return menu + "</ul></nav>\n<p id=\"store\">" + Page.link(store, "Go to Store") + "</p>\n";
    }

    static String landing(Collection<Assets.Asset> assets) {
        StringBuilder list = new StringBuilder("<h2>Assets</h2><ul>");
        for (Assets.Asset asset : assets) {
            list.append("<li>").append(Page.link("/publisher/assets/" + asset.type() + "/details/" + asset.id(),
                    asset.fields().get("overview_name"))).append(" ").append(asset.type()).append(" ").append(asset.state())
                    .append("</li>");
        }
        return list + "</ul>";
    }

    static String list(String type) {
        return "<ul data-assets=\"" + Page.escape(type) + "\"></ul>";
    }

    static String search() {
        StringBuilder form = new StringBuilder("<form id=\"search\" data-search><p><label>type <select name=\"type\">");
        MENU.forEach(type -> form.append("<option>").append(type).append("</option>"));
        return form + "</select></label></p>\n<p><label>name <input name=\"overview_name\"></label></p>\n"
                + "<button type=\"submit\">Search</button></form>\n<ul data-found></ul>";
    }

    static String create(String type) {
        StringBuilder form = new StringBuilder("<form id=\"form-asset-create\" method=\"post\" data-create=\""
                + Page.escape(type) + "\" action=\"/publisher/apis/assets?type=" + Page.escape(type) + "\">\n");
        for (String name : Literals.list("overview_name", "overview_context", "overview_version", "overview_description")) {
            form.append("<p><label>").append(name.substring("overview_".length())).append(" <input name=\"").append(name)
                    .append("\" id=\"").append(name).append("\"></label></p>\n");
        }
        return form + "<button type=\"submit\" id=\"btn-create-asset\">Create</button>\n</form>\n<p data-error></p>";
    }

    static String details(Assets.Asset asset) {
        StringBuilder rows = new StringBuilder("<dl><dt>state</dt><dd>" + Page.escape(asset.state()) + "</dd>");
        asset.fields().forEach((name, value) -> rows.append("<dt>").append(Page.escape(name)).append("</dt><dd>")
                .append(Page.escape(value)).append("</dd>"));
        return rows + "</dl>";
    }
}
