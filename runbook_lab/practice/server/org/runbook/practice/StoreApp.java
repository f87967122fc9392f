package org.runbook.practice;

import java.io.IOException;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;

/** /store: open to everyone to look around, signed in for one's own items. */
final class StoreApp extends JaggeryApp {
    private static final long serialVersionUID = 1L;
    private static final String FROZEN = "/_system/config/store/configs/store.json";
    private final transient Assets assets;

    StoreApp(Node node, Assets assets) throws IOException {
        super(node, "store");
        this.assets = assets;
    }

    @Override
    void firstBoot() throws SQLException, IOException {
        Tenant.load(node, FROZEN, folder.resolve("config/store-tenant.json"), List.of(loginPermission()));
    }

    @Override
    String afterSignIn(String relayState) {
        return relayState == null || !relayState.startsWith("/") ? "/store" : relayState;
    }

    /**
     * The first time that a user signs in here, by whatever way, the Store makes their private role and gives them the
     * roles of store-tenant.json: so the password endpoint hands out Internal/store (golden-run 4).
     */
    @Override
    void register(String user, boolean bySso) throws SQLException {
        String own = Users.INTERNAL + "private_" + user;
        if (!node.users().roleExists(own)) {
            Tenant.addPrivateRole(node.users(), user);
            node.users().updateRolesOf(user, List.of(), Tenant.userRoles(node, FROZEN));
        }
    }

    @Override
    void page(String path, String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (path.equals("/")) {
            response.sendRedirect("/store/pages/top-assets");
        } else if (path.equals("/pages/top-assets") || path.matches("/assets/[\\w-]+/list")) {
            overview(path, user, response);
        } else if (path.matches("/assets/[\\w-]+/details/[\\w-]+")) {
            details(RegistryStore.name(path), response);
        } else if (path.equals("/pages/my-items") && user == null) {
            refuse(response, "Sign in to see your items.");
        } else if (path.equals("/pages/my-items")) {
            Page.send(response, 200, "My items", "<p>Signed in as <b class=\"user\">" + Page.escape(user) + "</b></p>");
        } else if (path.equals("/apis/assets")) {
            List<Assets.Asset> found = assets.visible(request.getParameter("type"), visibleStates());
            Page.json(response, 200, Map.of("count", found.size(), "data",
                    found.stream().map(Assets.Asset::json).toList()));
        } else if (path.startsWith("/apis/assets/")) {
            Assets.Asset asset = assets.get(RegistryStore.name(path));
            Page.json(response, asset == null ? 404 : 200, asset == null ? Map.of("error", "no such asset")
                    : Map.of("data", asset.json()));
        } else if (path.startsWith("/extensions/") || path.startsWith("/themes/") || path.startsWith("/storage/")) {
            raw(path, response);
        } else {
            notFound(response);
        }
    }

    private List<?> visibleStates() {
        return Json.list(Json.map(config.get("lifeCycleBehaviour")).get("visibleIn"));
    }

    private void overview(String path, String user, HttpServletResponse response) throws IOException, SQLException {
        String type = path.startsWith("/assets/") ? path.split("/")[2] : null;
        StringBuilder list = new StringBuilder("<ul>");
        for (Assets.Asset asset : assets.visible(type, visibleStates())) {
            list.append("<li>").append(Page.link("/store/assets/" + asset.type() + "/details/" + asset.id(),
                    asset.fields().get("overview_name"))).append(" ").append(asset.type()).append("</li>");
        }
        Map<String, Object> social = Tenant.frozen(node, FROZEN);
        String script = Json.text(social, "features.social.keys.socialScriptSource", "");
        String frame = Json.text(social, "features.social.keys.socialAppUrl", "");
        Page.send(response, 200, "Store", (user == null ? "<p>" + Page.link("/store/login", "Sign in") + "</p>"
                : "<p>Signed in as <b class=\"user\">" + Page.escape(user) + "</b> "
                + Page.link("/store/logout", "Sign out") + "</p>")
                + "<h2>Top assets</h2>" + list + "</ul>\n<div id=\"social\" data-app=\"" + Page.escape(frame)
                + "\" data-script=\"" + Page.escape(script.replace("%https.host%", node.settings().httpsHost()))
                + "\"></div>");
    }

    private void details(String id, HttpServletResponse response) throws IOException, SQLException {
        Assets.Asset asset = assets.get(id);
        if (asset == null) {
            notFound(response);
            return;
        }
        StringBuilder rows = new StringBuilder("<dl><dt>state</dt><dd>" + Page.escape(asset.state()) + "</dd>");
        asset.fields().forEach((name, value) -> rows.append("<dt>").append(Page.escape(name)).append("</dt><dd>")
                .append(Page.escape(value)).append("</dd>"));
        Page.send(response, 200, asset.fields().get("overview_name"), rows + "</dl>");
    }
}
