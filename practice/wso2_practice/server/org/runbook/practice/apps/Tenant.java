package org.runbook.practice.apps;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.runbook.practice.Literals;
import org.runbook.practice.conf.Json;
import org.runbook.practice.db.Sql;
import org.runbook.practice.registry.RegistryStore;
import org.runbook.practice.users.Users;
import org.runbook.practice.web.Node;

/**
 * The *-tenant.json of an application: copied into the registry at its first boot anywhere and read from there ever
 * after, so that later edits of the file do nothing (facts 1.11).
 */
final class Tenant {
    private Tenant() {
    }

    /** Makes the roles that the file names, with the login permissions of this application, and freezes the file. */
    static void load(Node node, String frozen, Path file, List<String> permissions) throws SQLException, IOException {
        if (!node.registry().exists(frozen) && !node.registry().isReadOnly(frozen)) {
            node.registry().put(frozen, "application/json", new String(Files.readAllBytes(file), StandardCharsets.UTF_8),
                    node.users().adminUser);
        }
        Map<String, Object> roles = Json.map(frozen(node, frozen).get("roles"));
        for (String role : roles.keySet()) {
            Sql.insist(() -> {
                node.users().addRole(role);
                node.users().permit(role, Users.LOGIN);
                for (String permission : permissions) {
                    node.users().permit(role, permission);
                }
            });
        }
    }

    static Map<String, Object> frozen(Node node, String path) throws SQLException {
        RegistryStore.Resource resource = node.registry().get(path);
        return resource == null ? Literals.map() : Json.map(Json.parse(resource.content()));
    }

    static List<String> userRoles(Node node, String path) throws SQLException {
        return Json.list(frozen(node, path).get("userRoles")).stream().map(String::valueOf).collect(Collectors.toList());
    }

    /** The role that belongs to one user alone; it may log in at the console, like all of them (golden-run 4). */
    static void addPrivateRole(Users users, String user) throws SQLException {
        String own = Users.INTERNAL + "private_" + user;
        Sql.insist(() -> {
            users.addRole(own);
            users.permit(own, Users.LOGIN);
            users.updateRolesOf(user, Literals.list(), Literals.list(own));
        });
    }
}
