package org.runbook.practice.apps;

import java.io.IOException;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.conf.Json;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.db.Schema;
import org.runbook.practice.db.Sql;
import org.runbook.practice.sso.Saml;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;

/** /social: the comments below an asset, read from the social database. */
public final class SocialApp extends Application {
    private static final long serialVersionUID = 1L;
    private final transient Map<String, Object> config;
    private final transient Sql comments;

    public SocialApp(Node node) throws IOException, SQLException {
        super(node, "social");
        config = Json.readFile(folder.resolve("configs/social.json"));
        comments = new Sql(node.sources().get("jdbc/WSO2SocialDB"));
        if (node.settings().setup) {
            createTables();
        }
    }

    private void createTables() {
        try {
            new Schema(node.settings()).create(comments, "SELECT id FROM SOCIAL_COMMENTS WHERE id = 0",
                    "social/%s/resource.sql");
        } catch (SQLException e) {
            Log.warn("JAGGERY.social", "Cannot create the social tables: " + e.getMessage()); // no comments then
        }
    }

    @Override
    List<String> look() {
        return Literals.list("/social/export-js/social.js");
    }

    @Override
    boolean perform(String what, String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        switch (what) {
            case "index":
                index(request.getParameter("target"), response);
                break;
            case "login":
                String provider = configured("authentication.methods.sso.attributes.identityProviderURL");
                Page.post(response, provider, fields("SAMLRequest",
                        Saml.request("AuthnRequest", "social", provider, null, null), "RelayState", "/social"));
                break;
            case "comments":
                Page.json(response, 200, read(request.getParameter("target")));
                break;
            default:
                return false;
        }
        return true;
    }

    private void index(String target, HttpServletResponse response) throws IOException, SQLException {
        StringBuilder list = new StringBuilder("<p>Comments appear below the assets of the Store.</p><ul>");
        for (Map<String, Object> comment : read(target)) {
            list.append("<li>").append(Page.escape(String.valueOf(comment.get("body")))).append("</li>");
        }
        show(response, 200, "Comments", list + "</ul>");
    }

    private List<Map<String, Object>> read(String target) throws SQLException {
        return comments.query(row -> Literals.map("id", (Object) row.getInt("id"), "body", row.getString("body")),
                "SELECT body, id FROM SOCIAL_COMMENTS WHERE payload_context_id = ? ORDER BY id DESC",
                String.valueOf(target));
    }

    /** Here %https.host% is this node's own address and port: HostName and proxyPort do not count (facts 1.11). */
    private String configured(String path) {
        Settings settings = node.settings();
        return Json.text(config, path, "").replace("%https.host%",
                "https://" + Settings.localHost() + ":" + settings.port(true));
    }
}
