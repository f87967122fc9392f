package org.runbook.practice;

import java.io.IOException;
import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;

/** /publisher: nothing without signing in, except what the real one gives away (facts 10.1). */
final class PublisherApp extends JaggeryApp {
    private static final long serialVersionUID = 1L;
    private static final String FROZEN = "/_system/config/publisher/configs/publisher.json";
    private final transient Assets assets;

    PublisherApp(Node node, Assets assets) throws IOException {
        super(node, "publisher");
        this.assets = assets;
    }

    @Override
    void firstBoot() throws SQLException, IOException {
        Tenant.load(node, FROZEN, folder.resolve("config/publisher-tenant.json"), List.of(loginPermission()));
    }

    @Override
    String afterSignIn(String relayState) {
        return "/publisher";
    }

    /** Signing in by SSO registers the user; the password endpoint opens a session and writes nothing (golden-run 4). */
    @Override
    void register(String user, boolean bySso) throws SQLException {
        if (bySso && !node.users().roleExists(Users.INTERNAL + "private_" + user)) {
            Tenant.addPrivateRole(node.users(), user);
        }
    }

    @Override
    void page(String path, String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (path.startsWith("/config/") || path.startsWith("/extensions/")) {
            raw(path, response); // in clear to anyone, the administrator's password included, as measured
        } else if (path.startsWith("/test/")) {
            response.setStatus(200);
        } else if (path.equals("/test2")) {
            refuse(response, "");
        } else if (path.startsWith("/apis/")) {
            api(path, user, request, response);
        } else if (path.equals("/")) {
            response.sendRedirect(user == null ? "/publisher/login" : "/publisher/pages/gc-landing");
        } else if (user == null && path.matches("/(pages|assets)/.*")) {
            response.sendRedirect("/publisher/login");
        } else if (path.equals("/pages/gc-landing") || path.matches("/assets/[\\w-]+/list")) {
            overview(user, response);
        } else {
            notFound(response);
        }
    }

    private void overview(String user, HttpServletResponse response) throws IOException {
        StringBuilder list = new StringBuilder("<ul>");
        assets.indexed().forEach(asset -> list.append("<li>").append(Page.escape(asset.fields().get("overview_name")))
                .append(" ").append(asset.type()).append(" ").append(asset.state()).append("</li>"));
        Page.send(response, 200, "Publisher", "<p>Signed in as <b class=\"user\">" + Page.escape(user) + "</b> "
                + Page.link("/publisher/logout", "Sign out") + "</p>\n<p id=\"store\">"
                + Page.link(configured("storeUrl"), "Go to Store") + "</p>\n<h2>Assets</h2>" + list + "</ul>");
    }

    private void api(String path, String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (user == null) {
            Page.json(response, 401, Map.of("error", "User is not logged in"));
        } else if (!node.users().authorized(user, loginPermission())) {
            Page.json(response, 403, Map.of("error", "No permission on assets"));
        } else if (path.equals("/apis/assets") && request.getMethod().equals("POST")) {
            Assets.Asset made = assets.create(type(request), overviewFields(request), user);
            Page.json(response, made == null ? 400 : 201, made == null
                    ? Map.of("error", "The asset has no name, or exists already") : made.json());
        } else if (path.equals("/apis/assets")) {
            List<Assets.Asset> found = assets.indexed().stream().filter(a -> a.type().equals(type(request))).toList();
            Page.json(response, 200, Map.of("count", found.size(), "data",
                    found.stream().map(Assets.Asset::json).toList()));
        } else if (path.matches("/apis/assets?/[\\w-]+(/change-state)?")) {
            one(path, user, request, response);
        } else {
            notFound(response);
        }
    }

    private void one(String path, String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        Assets.Asset asset = assets.get(path.split("/")[3]);
        if (asset == null) {
            Page.json(response, 404, Map.of("error", "no such asset"));
        } else if (path.endsWith("/change-state")) {
            boolean moved = assets.move(asset, String.valueOf(request.getParameter("nextState")), user);
            Page.json(response, moved ? 200 : 500, moved ? Map.of("status", "Success")
                    : Map.of("error", "Cannot change the state from " + asset.state()));
        } else if (request.getMethod().equals("DELETE")) {
            assets.delete(asset);
            Page.json(response, 200, Map.of("status", "Success"));
        } else if (request.getMethod().equals("POST") || request.getMethod().equals("PUT")) {
            assets.update(asset, overviewFields(request), user);
            Page.json(response, 200, assets.get(asset.id()).json());
        } else {
            Page.json(response, 200, Map.of("data", asset.json()));
        }
    }

    private static String type(HttpServletRequest request) {
        return String.valueOf(request.getParameter("type")).replaceAll("[^\\w-]", "");
    }

    private static Map<String, String> overviewFields(HttpServletRequest request) {
        Map<String, String> fields = new LinkedHashMap<>();
        request.getParameterMap().forEach((name, values) -> {
            if (name.matches("[a-z]+_\\w+")) {
                fields.put(name, values[0]);
            }
        });
        return fields;
    }
}
