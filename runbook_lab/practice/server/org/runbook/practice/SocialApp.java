package org.runbook.practice;

import java.io.IOException;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;

/** /social: the comments below an asset, read from the social database. */
final class SocialApp extends Surface {
    private static final long serialVersionUID = 1L;
    private final transient Map<String, Object> config;
    private final transient Sql comments;

    SocialApp(Node node) throws IOException, SQLException {
        super(node);
        config = Json.readFile(node.settings().deployment("jaggeryapps/social/configs/social.json"));
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
    void answer(String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException, SQLException {
        switch (path) {
            case "/" -> Page.send(response, 200, "Comments", "<p>Comments appear below the assets of the Store.</p>");
            case "/export-js/social.js" -> {
                response.setContentType("text/javascript");
                response.getWriter().write("/* practice server: no comments widget */\n");
            }
            case "/login" -> {
                String provider = configured("authentication.methods.sso.attributes.identityProviderURL");
                Page.post(response, provider, fields("SAMLRequest",
                        Saml.request("AuthnRequest", "social", provider, null, null), "RelayState", "/social"));
            }
            case "/apis/object.jag" -> Page.json(response, 200, Map.of("attachments", read(request.getParameter("target"))));
            default -> notFound(response);
        }
    }

    private List<Map<String, Object>> read(String target) throws SQLException {
        return comments.query(row -> Map.of("id", (Object) row.getInt("id"), "body", row.getString("body")),
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
