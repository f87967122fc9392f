package org.runbook.practice.apps;

import java.util.List;
import java.util.Map;
import org.runbook.practice.Literals;
import org.runbook.practice.conf.Json;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;

/** The Store's pages as a browser walks them. */
final class StorePages {
    static final List<String> LOOK = Literals.list("/store/themes/store/css/practice.css",
            "/store/extensions/app/greg_store/themes/store/css/practice.css", "/store/themes/store/js/practice.js",
            "/store/extensions/app/greg_store/themes/store/js/practice.js");

    private StorePages() {
    }

    /** Links; for a user with the form that changes the password, as the real pages carry it (facts 12.3). */
    static String menu(String user) {
        StringBuilder menu = new StringBuilder("<p><img src=\"/store/themes/store/img/practice.png\" alt=\"\"> "
                + (user == null ? Page.link("/store/login", "Sign in") : "Signed in as <b class=\"user\">"
                + Page.escape(user) + "</b> " + Page.link("/store/logout", "Sign out")) + "</p>\n<nav><p>"
                + Page.link("/store/pages/top-assets", "Top assets"));
        if (user != null) {
            menu.append(" ").append(Page.link("/store/pages/my-items", "My items"));
        }
        menu.append("</p>\n<ul>");
        PublisherPages.MENU.forEach(type -> menu.append("<li>").append(Page.link("/store/assets/" + type + "/list", type))
                .append("</li>"));
        menu.append("</ul></nav>\n");
        return user == null ? menu.toString() : menu + "<form id=\"change-password\" method=\"post\" hidden>\n"
                + "<input type=\"password\" name=\"password\"><input type=\"password\" name=\"new_password\">\n</form>\n";
    }

    static String overview(String title, List<Assets.Asset> assets) {
        StringBuilder list = new StringBuilder("<h2>" + title + "</h2><ul>");
        for (Assets.Asset asset : assets) {
            list.append("<li>").append(Page.link("/store/assets/" + asset.type() + "/details/" + asset.id(),
                    asset.fields().get("overview_name"))).append(" ").append(asset.type()).append("</li>");
        }
        return list + "</ul>\n";
    }

    /** Where the comments come from, as the frozen settings have it; below an asset they are loaded. */
    static String social(Node node, Map<String, Object> frozen, String asset) {
        String script = Json.text(frozen, "features.social.keys.socialScriptSource", "")
                .replace("%https.host%", node.settings().httpsHost());
        String frame = Json.text(frozen, "features.social.keys.socialAppUrl", "");
        if (asset == null) {
            return "<div id=\"social\" data-app=\"" + Page.escape(frame) + "\" data-script=\"" + Page.escape(script)
                    + "\"></div>";
        }
        return "<iframe id=\"socialIfr\" title=\"Comments\" src=\"" + Page.escape(frame + "/?target=" + asset)
                + "\"></iframe>\n<script src=\"" + Page.escape(script) + "\"></script>";
    }
}
