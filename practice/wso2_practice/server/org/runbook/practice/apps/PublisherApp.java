package org.runbook.practice.apps;

import java.io.IOException;
import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Literals;
import org.runbook.practice.users.Users;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;

/** /publisher: nothing without signing in, except what the real one gives away (facts 10.1 and 12.1). */
public final class PublisherApp extends JaggeryApp {
    private static final long serialVersionUID = 1L;
    private static final String FROZEN = "/_system/config/publisher/configs/publisher.json";
    private static final Pattern ASSET_PAGE = Pattern.compile("/assets/([\\w-]+)/(list|create|details/([\\w-]+))");
    private final transient Assets assets;

    public PublisherApp(Node node, Assets assets) throws IOException {
        super(node, "publisher");
        this.assets = assets;
    }

    @Override
    public void firstBoot() throws SQLException, IOException {
        Tenant.load(node, FROZEN, folder.resolve("config/publisher-tenant.json"), Literals.list(loginPermission()));
    }

    @Override
    String afterSignIn(String relayState) {
        return "/publisher";
    }

    @Override
    List<String> look() {
        return PublisherPages.LOOK;
    }

    /** Signing in by SSO registers the user; the password endpoint opens a session and writes nothing (golden-run 4). */
    @Override
    void register(String user, boolean bySso) throws SQLException {
        if (bySso && !node.users().roleExists(Users.INTERNAL + "private_" + user)) {
            Tenant.addPrivateRole(node.users(), user);
        }
    }

    @Override
    boolean page(String page, String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        if (user == null) {
            response.sendRedirect("/publisher/login");
        } else if (page.equals("gc-landing")) {
            show(response, 200, "Publisher", menu(user) + PublisherPages.landing(assets.indexed()));
        } else if (page.equals("advanced-search")) {
            show(response, 200, "Advanced search", menu(user) + PublisherPages.search());
        } else {
            return false;
        }
        return true;
    }

    @Override
    boolean own(String what, String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        switch (what) {
            case "assets":
                return assetPage(path, user(request), response);
            case "apis":
                return path.startsWith("/apis/") && api(path, request, response);
            case "assets-api":
                list(user(request), request, response);
                return true;
            default:
                return false;
        }
    }

    private boolean assetPage(String path, String user, HttpServletResponse response) throws IOException, SQLException {
        Matcher asked = ASSET_PAGE.matcher(path);
        if (!asked.matches() || !Assets.TYPES.contains(asked.group(1))) {
            return false;
        }
        String type = asked.group(1);
        Assets.Asset asset = asked.group(3) == null ? null : assets.get(asked.group(3));
        if (asset != null) {
            show(response, 200, asset.fields().get("overview_name"), menu(user) + PublisherPages.details(asset));
        } else if (asked.group(3) != null) {
            return false;
        } else if (asked.group(2).equals("list")) {
            show(response, 200, type + ": all", menu(user) + PublisherPages.list(type));
        } else {
            show(response, 200, type + ": a new one", menu(user) + PublisherPages.create(type));
        }
        return true;
    }

    private String menu(String user) {
        return PublisherPages.menu(user, configured("storeUrl"));
    }

    private boolean api(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        String called = path.split("/", -1)[2];
        if (!called.matches("assets?")) {
            return includeApi(called, request, response, "publisher-apis", "greg-apis");
        }
        String user = user(request);
        if (user == null) {
            Page.json(response, 401, Literals.map("error", "User is not logged in"));
        } else if (path.equals("/apis/assets")) {
            list(user, request, response);
        } else if (!belongs(user)) {
            Page.json(response, 500, Literals.map("error", "No permission on assets"));
        } else if (path.matches("/apis/assets?/[\\w-]+(/change-state)?")) {
            one(path, user, request, response);
        } else {
            return false;
        }
        return true;
    }

    /** Assets of a type, or a new one. Whoever came in by the side door sees none and makes none (facts 12.1). */
    private void list(String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        boolean belongs = belongs(user);
        if (request.getParameter("type") == null) {
            Page.json(response, 406, Literals.map("error", "A type is needed"));
        } else if (!request.getMethod().equals("POST")) {
            List<?> found = !belongs ? Literals.list() : assets.indexed().stream().filter(a -> a.type().equals(type(request)))
                    .map(Assets.Asset::json).collect(Collectors.toList());
            Page.json(response, 200, Literals.map("count", found.size(), "data", found));
        } else if (!belongs) {
            Page.json(response, 500, Literals.map("error", "No permission on assets"));
        } else {
            Assets.Asset made = assets.create(type(request), overviewFields(request), user);
            Page.json(response, made == null ? 400 : 201, made == null
                    ? Literals.map("error", "The asset has no name, or exists already") : made.json());
        }
    }

    private void one(String path, String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        Assets.Asset asset = assets.get(path.split("/")[3]);
        if (asset == null) {
            Page.json(response, 404, Literals.map("error", "no such asset"));
        } else if (path.endsWith("/change-state")) {
            boolean moved = assets.move(asset, String.valueOf(request.getParameter("nextState")), user);
            Page.json(response, moved ? 200 : 500, moved ? Literals.map("status", "Success")
                    : Literals.map("error", "Cannot change the state from " + asset.state()));
        } else if (request.getMethod().equals("DELETE")) {
            assets.delete(asset);
            Page.json(response, 200, Literals.map("status", "Success"));
        } else if (request.getMethod().equals("POST") || request.getMethod().equals("PUT")) {
            assets.update(asset, overviewFields(request), user);
            Page.json(response, 200, assets.get(asset.id()).json());
        } else {
            Page.json(response, 200, Literals.map("data", asset.json()));
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
