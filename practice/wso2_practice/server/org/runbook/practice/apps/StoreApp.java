package org.runbook.practice.apps;

import java.io.IOException;
import java.sql.SQLException;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Literals;
import org.runbook.practice.conf.Json;
import org.runbook.practice.registry.RegistryStore;
import org.runbook.practice.users.Users;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;

/** /store: open to everyone to look around, but assets are seen by its own users only (facts 12.3). */
public final class StoreApp extends JaggeryApp {
    private static final long serialVersionUID = 1L;
    private static final String FROZEN = "/_system/config/store/configs/store.json";
    private static final Pattern ASSET_PAGE = Pattern.compile("/assets/([\\w-]+)/(list|details/([\\w-]+))");
    private static final Pattern TENANT = Pattern.compile("/t/([^/]+)(/(?:pages|assets|storage)/.*)");
    private final transient Assets assets;

    public StoreApp(Node node, Assets assets) throws IOException {
        super(node, "store");
        this.assets = assets;
    }

    @Override
    public void firstBoot() throws SQLException, IOException {
        Tenant.load(node, FROZEN, folder.resolve("config/store-tenant.json"), Literals.list(loginPermission()));
    }

    @Override
    String afterSignIn(String relayState) {
        return relayState == null || !relayState.startsWith("/") ? "/store" : relayState;
    }

    @Override
    List<String> look() {
        return StorePages.LOOK;
    }

    /**
     * The first time that a user signs in here, by SSO or by the password API, the Store makes their private role and gives
     * them the roles of store-tenant.json: so the API hands out Internal/store (golden-run 4).
     */
    @Override
    void register(String user, boolean bySso) throws SQLException {
        String own = Users.INTERNAL + "private_" + user;
        if (!node.users().roleExists(own)) {
            Tenant.addPrivateRole(node.users(), user);
            node.users().updateRolesOf(user, Literals.list(), Tenant.userRoles(node, FROZEN));
        }
    }

    @Override
    boolean page(String page, String user, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        if (page.equals("top-assets")) {
            show(response, 200, "Store", menu(user) + StorePages.overview("Top assets", shown(null, user))
                    + StorePages.social(node, Tenant.frozen(node, FROZEN), null));
        } else if (page.equals("my-items") && !belongs(user)) {
            refuse(response, "Sign in to see your items.");
        } else if (page.equals("my-items")) {
            show(response, 200, "My items", menu(user) + "<p>Nothing is bookmarked here.</p>");
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
            case "tenant":
                return tenant(path, request, response);
            default:
                return false;
        }
    }

    private boolean assetPage(String path, String user, HttpServletResponse response) throws IOException, SQLException {
        Matcher asked = ASSET_PAGE.matcher(path);
        if (!asked.matches() || !Assets.TYPES.contains(asked.group(1))) {
            return false;
        }
        String id = asked.group(3);
        if (id == null) {
            show(response, 200, asked.group(1), menu(user) + StorePages.overview("Assets", shown(asked.group(1), user)));
            return true;
        }
        Assets.Asset asset = belongs(user) ? assets.get(id) : null;
        if (asset == null) {
            return false;
        }
        show(response, 200, asset.fields().get("overview_name"), menu(user) + PublisherPages.details(asset)
                + StorePages.social(node, Tenant.frozen(node, FROZEN), id));
        return true;
    }

    private String menu(String user) {
        return StorePages.menu(user);
    }

    /** The assets that a visitor sees of a type (null: of all): none without the Store's own permission. */
    private List<Assets.Asset> shown(String type, String user) throws SQLException {
        List<?> states = Json.list(Json.map(config.get("lifeCycleBehaviour")).get("visibleIn"));
        return belongs(user) ? assets.visible(type, states) : Literals.list();
    }

    private boolean api(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        String called = path.split("/", -1)[2];
        String user = user(request);
        if (path.startsWith("/apis/v1/assets")) {
            response.setHeader("WWW-Authenticate", "Basic realm=\"Authentication required\"");
            refuse(response, "This needs a user and a password.");
        } else if (!called.equals("assets")) {
            return includeApi(called, request, response, "store-apis", "greg-apis");
        } else if (path.equals("/apis/assets")) {
            List<?> found = shown(request.getParameter("type"), user).stream().map(Assets.Asset::json).collect(Collectors.toList());
            Page.json(response, 200, belongs(user) ? Literals.map("count", found.size(), "data", found) : Literals.map("data", found));
        } else {
            Assets.Asset asset = belongs(user) ? assets.get(RegistryStore.name(path)) : null;
            Page.json(response, asset == null ? 404 : 200, asset == null ? Literals.map("error", "no such asset")
                    : Literals.map("data", asset.json()));
        }
        return true;
    }

    /** /t/carbon.super/… is what the same path without it is; other tenants do not exist. */
    private boolean tenant(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        Matcher asked = TENANT.matcher(path);
        if (!asked.matches()) {
            return false;
        } else if (asked.group(1).equals("carbon.super")) {
            answer(asked.group(2), request, response);
        } else {
            notFound(response);
        }
        return true;
    }
}
