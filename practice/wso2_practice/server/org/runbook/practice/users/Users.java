package org.runbook.practice.users;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Timestamp;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.List;
import java.util.TreeSet;
import org.runbook.practice.BootFailure;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.conf.Xml;
import org.runbook.practice.db.DataSources;
import org.runbook.practice.db.Schema;
import org.runbook.practice.db.Sql;
import org.w3c.dom.Element;
import org.xml.sax.SAXException;

/** Users, roles and permissions in the UM_* tables of the database that user-mgt.xml names. */
public final class Users {
    public static final String LOGIN = "/permission/admin/login";
    public static final String INTERNAL = "Internal/";
    private static final String ACTIVATOR = "org.wso2.carbon.user.core.internal.Activator";
    private static final String STORE = "org.wso2.carbon.user.core.jdbc.JDBCUserStoreManager";
    private static final int TENANT = -1234;

    private final Settings settings;
    private final Sql sql;
    private final Element realm;
    final String adminRole;
    public final String adminUser;

    /** Opens the user store and, at its first use, fills it; a failure is logged as the real bundle logs it. */
    public Users(Settings settings, DataSources sources) {
        this.settings = settings;
        realm = Xml.first(settings.userManagement, "Realm/Configuration");
        adminRole = Xml.text(realm, "AdminRole", "admin");
        adminUser = Xml.text(realm, "AdminUser/UserName", "admin");
        try {
            sql = new Sql(sources.get(Xml.text(realm, "Property[name=dataSource]", "jdbc/WSO2CarbonDB")));
            if (settings.setup) {
                new Schema(settings).create(sql, "SELECT UM_ID FROM UM_USER WHERE UM_ID = 0", "%s.sql");
            }
            Sql.insist(this::fill);
        } catch (SQLException e) {
            Log.error("org.wso2.carbon.user.core.util.DatabaseUtil", "Database Error - " + e.getMessage(), e);
            Log.error(ACTIVATOR, "Cannot start User Manager Core bundle", e);
            throw new BootFailure("user manager", e);
        }
    }

    private void fill() throws SQLException {
        for (String domain : Literals.list("PRIMARY", "INTERNAL", "SYSTEM")) {
            if (!sql.exists("SELECT 1 FROM UM_DOMAIN WHERE UM_DOMAIN_NAME = ? AND UM_TENANT_ID = ?", domain, TENANT)) {
                sql.insert("INSERT INTO UM_DOMAIN (UM_DOMAIN_NAME, UM_TENANT_ID) VALUES (?, ?)", domain, TENANT);
            }
        }
        if (!sql.exists("SELECT 1 FROM UM_DIALECT WHERE UM_TENANT_ID = ?", TENANT)) {
            addClaims();
        }
        if (Xml.text(realm, "AddAdmin", "true").equals("true") && !exists(adminUser)) {
            addUser(adminUser, Xml.text(realm, "AdminUser/Password", "admin"), Literals.list());
        }
        if (!roleExists(adminRole)) {
            addAdminRole();
        }
        addRole(INTERNAL + Xml.text(realm, "EveryOneRoleName", "everyone"));
    }

    /** The claims of claim-config.xml: one of them holds a character that latin1 does not have (golden-run 1). */
    private void addClaims() throws SQLException {
        Element root;
        try {
            root = Xml.read(settings.conf("claim-config.xml")).getDocumentElement();
        } catch (IOException | SAXException e) {
            throw new SQLException("claim-config.xml cannot be read: " + e.getMessage(), e);
        }
        for (Element dialect : Xml.all(root, "Dialects/Dialect")) {
            long id = sql.insert("INSERT INTO UM_DIALECT (UM_DIALECT_URI, UM_TENANT_ID) VALUES (?, ?)",
                    dialect.getAttribute("dialectURI"), TENANT);
            for (Element claim : Xml.all(dialect, "Claim")) {
                sql.insert("INSERT INTO UM_CLAIM (UM_DIALECT_ID, UM_CLAIM_URI, UM_DISPLAY_TAG, UM_DESCRIPTION,"
                        + " UM_MAPPED_ATTRIBUTE, UM_TENANT_ID) VALUES (?, ?, ?, ?, ?, ?)", id,
                        Xml.text(claim, "ClaimURI", ""), Xml.text(claim, "DisplayName", ""),
                        Xml.text(claim, "Description", ""), Xml.text(claim, "AttributeID", ""), TENANT);
            }
        }
    }

    private void addAdminRole() throws SQLException {
        try (Connection connection = sql.connect()) {
            Schema.type(connection);
        } catch (SQLException e) {
            Log.error(STORE, "Error while adding role : " + adminRole, e);
            throw new SQLException("Admin role has not been created. Error occurs while creating Admin role in primary"
                    + " user store.", e);
        }
        addRole(adminRole);
        permit(adminRole, "/permission");
        updateRolesOf(adminUser, Literals.list(), Literals.list(adminRole));
    }

    public boolean authenticate(String user, String password) throws SQLException {
        List<String[]> rows = sql.query(row -> new String[] {row.getString(1), row.getString(2)},
                "SELECT UM_USER_PASSWORD, UM_SALT_VALUE FROM UM_USER WHERE UM_USER_NAME = ? AND UM_TENANT_ID = ?",
                user, TENANT);
        return !rows.isEmpty() && rows.get(0)[0].equals(hash(password, rows.get(0)[1]));
    }

    public boolean exists(String user) throws SQLException {
        return sql.exists("SELECT 1 FROM UM_USER WHERE UM_USER_NAME = ? AND UM_TENANT_ID = ?", user, TENANT);
    }

    public List<String> list(String filter, int limit) throws SQLException {
        String pattern = filter == null || filter.isEmpty() ? "%" : filter.replace('*', '%');
        List<String> found = sql.strings("SELECT UM_USER_NAME FROM UM_USER WHERE UM_USER_NAME LIKE ? AND UM_TENANT_ID = ?"
                + " ORDER BY UM_USER_NAME", pattern, TENANT);
        return limit > 0 && found.size() > limit ? found.subList(0, limit) : found;
    }

    public void addUser(String user, String password, Collection<String> roles) throws SQLException {
        if (exists(user)) {
            throw new SQLException("UserAlreadyExisting:Username '" + user + "' already exists in the system. Please"
                    + " pick another username.");
        }
        String salt = salt();
        sql.insert("INSERT INTO UM_USER (UM_USER_NAME, UM_USER_PASSWORD, UM_SALT_VALUE, UM_REQUIRE_CHANGE,"
                + " UM_CHANGED_TIME, UM_TENANT_ID) VALUES (?, ?, ?, ?, ?, ?)",
                user, hash(password, salt), salt, false, now(), TENANT);
        updateRolesOf(user, Literals.list(), roles);
    }

    public void deleteUser(String user) throws SQLException {
        sql.update("DELETE FROM UM_HYBRID_USER_ROLE WHERE UM_USER_NAME = ? AND UM_TENANT_ID = ?", user, TENANT);
        for (long id : sql.query(row -> row.getLong(1),
                "SELECT UM_ID FROM UM_USER WHERE UM_USER_NAME = ? AND UM_TENANT_ID = ?", user, TENANT)) {
            sql.update("DELETE FROM UM_USER_ROLE WHERE UM_USER_ID = ? AND UM_TENANT_ID = ?", id, TENANT);
            sql.update("DELETE FROM UM_USER WHERE UM_ID = ? AND UM_TENANT_ID = ?", id, TENANT);
        }
    }

    public void changePassword(String user, String password) throws SQLException {
        String salt = salt();
        sql.update("UPDATE UM_USER SET UM_USER_PASSWORD = ?, UM_SALT_VALUE = ?, UM_CHANGED_TIME = ?"
                + " WHERE UM_USER_NAME = ? AND UM_TENANT_ID = ?", hash(password, salt), salt, now(), user, TENANT);
    }

    /** The roles of a user; everyone has the everyone role. */
    public List<String> rolesOf(String user) throws SQLException {
        TreeSet<String> roles = new TreeSet<>(sql.strings("SELECT r.UM_ROLE_NAME FROM UM_ROLE r"
                + " JOIN UM_USER_ROLE m ON m.UM_ROLE_ID = r.UM_ID AND m.UM_TENANT_ID = r.UM_TENANT_ID"
                + " JOIN UM_USER u ON u.UM_ID = m.UM_USER_ID AND u.UM_TENANT_ID = r.UM_TENANT_ID"
                + " WHERE u.UM_USER_NAME = ? AND r.UM_TENANT_ID = ?", user, TENANT));
        sql.strings("SELECT r.UM_ROLE_NAME FROM UM_HYBRID_ROLE r JOIN UM_HYBRID_USER_ROLE m"
                + " ON m.UM_ROLE_ID = r.UM_ID AND m.UM_TENANT_ID = r.UM_TENANT_ID"
                + " WHERE m.UM_USER_NAME = ? AND r.UM_TENANT_ID = ?", user, TENANT)
                .forEach(role -> roles.add(INTERNAL + role));
        roles.add(INTERNAL + Xml.text(realm, "EveryOneRoleName", "everyone"));
        return new ArrayList<>(roles);
    }

    public List<String> roleNames() throws SQLException {
        List<String> names = new ArrayList<>(sql.strings(
                "SELECT UM_ROLE_NAME FROM UM_ROLE WHERE UM_TENANT_ID = ? ORDER BY UM_ROLE_NAME", TENANT));
        sql.strings("SELECT UM_ROLE_NAME FROM UM_HYBRID_ROLE WHERE UM_TENANT_ID = ? ORDER BY UM_ROLE_NAME", TENANT)
                .forEach(role -> names.add(INTERNAL + role));
        return names;
    }

    public boolean roleExists(String role) throws SQLException {
        return roleId(role) != null;
    }

    /** Adds a role; "Internal/x" is a hybrid role, stored without its prefix as Carbon does. */
    public void addRole(String role) throws SQLException {
        if (roleExists(role)) {
            return;
        }
        try {
            if (role.startsWith(INTERNAL)) {
                sql.insert("INSERT INTO UM_HYBRID_ROLE (UM_ROLE_NAME, UM_TENANT_ID) VALUES (?, ?)", bare(role), TENANT);
            } else {
                sql.insert("INSERT INTO UM_ROLE (UM_ROLE_NAME, UM_TENANT_ID, UM_SHARED_ROLE) VALUES (?, ?, ?)",
                        role, TENANT, false);
            }
        } catch (SQLException e) {
            if (!roleExists(role)) { // another node may have been faster
                throw e;
            }
        }
    }

    public void deleteRole(String role) throws SQLException {
        Long id = roleId(role);
        if (id == null) {
            return;
        }
        String hybrid = role.startsWith(INTERNAL) ? "UM_HYBRID_" : "UM_";
        sql.update("DELETE FROM " + hybrid + "USER_ROLE WHERE UM_ROLE_ID = ? AND UM_TENANT_ID = ?", id, TENANT);
        sql.update("DELETE FROM UM_ROLE_PERMISSION WHERE UM_ROLE_NAME = ? AND UM_DOMAIN_ID = ? AND UM_TENANT_ID = ?",
                bare(role), domainOf(role), TENANT);
        sql.update("DELETE FROM " + hybrid + "ROLE WHERE UM_ID = ? AND UM_TENANT_ID = ?", id, TENANT);
    }

    public List<String> usersOf(String role) throws SQLException {
        List<String> found = new ArrayList<>();
        for (String user : list("*", 0)) {
            if (rolesOf(user).contains(role)) {
                found.add(user);
            }
        }
        return found;
    }

    public void updateRolesOf(String user, Collection<String> removed, Collection<String> added) throws SQLException {
        for (String role : removed) {
            change(user, role, false);
        }
        for (String role : added) {
            change(user, role, true);
        }
    }

    private void change(String user, String role, boolean add) throws SQLException {
        if (role.equals(INTERNAL + Xml.text(realm, "EveryOneRoleName", "everyone"))) {
            return;
        }
        Long roleId = roleId(role);
        if (roleId == null) {
            throw new SQLException("The role: " + role + " does not exist.");
        }
        boolean held = rolesOf(user).contains(role);
        if (held == add) {
            return;
        }
        if (role.startsWith(INTERNAL)) {
            sql.update(add ? "INSERT INTO UM_HYBRID_USER_ROLE (UM_USER_NAME, UM_ROLE_ID, UM_TENANT_ID, UM_DOMAIN_ID)"
                    + " VALUES (?, ?, ?, " + domainId("PRIMARY") + ")" : "DELETE FROM UM_HYBRID_USER_ROLE"
                    + " WHERE UM_USER_NAME = ? AND UM_ROLE_ID = ? AND UM_TENANT_ID = ?", user, roleId, TENANT);
            return;
        }
        long userId = sql.query(row -> row.getLong(1),
                "SELECT UM_ID FROM UM_USER WHERE UM_USER_NAME = ? AND UM_TENANT_ID = ?", user, TENANT).get(0);
        sql.update(add ? "INSERT INTO UM_USER_ROLE (UM_USER_ID, UM_ROLE_ID, UM_TENANT_ID) VALUES (?, ?, ?)"
                : "DELETE FROM UM_USER_ROLE WHERE UM_USER_ID = ? AND UM_ROLE_ID = ? AND UM_TENANT_ID = ?",
                userId, roleId, TENANT);
    }

    /** Lets a role do everything at and below a permission path. */
    public void permit(String role, String resource) throws SQLException {
        List<Long> ids = sql.query(row -> row.getLong(1), "SELECT UM_ID FROM UM_PERMISSION WHERE UM_RESOURCE_ID = ?"
                + " AND UM_ACTION = ? AND UM_TENANT_ID = ?", resource, "ui.execute", TENANT);
        long id = ids.isEmpty() ? sql.insert("INSERT INTO UM_PERMISSION (UM_RESOURCE_ID, UM_ACTION, UM_TENANT_ID)"
                + " VALUES (?, ?, ?)", resource, "ui.execute", TENANT) : ids.get(0);
        if (!sql.exists("SELECT 1 FROM UM_ROLE_PERMISSION WHERE UM_PERMISSION_ID = ? AND UM_ROLE_NAME = ?"
                + " AND UM_DOMAIN_ID = ? AND UM_TENANT_ID = ?", id, bare(role), domainOf(role), TENANT)) {
            sql.insert("INSERT INTO UM_ROLE_PERMISSION (UM_PERMISSION_ID, UM_ROLE_NAME, UM_IS_ALLOWED, UM_TENANT_ID,"
                    + " UM_DOMAIN_ID) VALUES (?, ?, ?, ?, ?)", id, bare(role), 1, TENANT, domainOf(role));
        }
    }

    /** Whether one of the user's roles may do this, by itself or by a permission above it. */
    public boolean authorized(String user, String resource) throws SQLException {
        List<String> roles = rolesOf(user);
        for (String[] grant : sql.query(row -> new String[] {row.getString(1), row.getString(2), row.getString(3)},
                "SELECT p.UM_RESOURCE_ID, g.UM_ROLE_NAME, d.UM_DOMAIN_NAME FROM UM_PERMISSION p"
                + " JOIN UM_ROLE_PERMISSION g ON g.UM_PERMISSION_ID = p.UM_ID AND g.UM_TENANT_ID = p.UM_TENANT_ID"
                + " JOIN UM_DOMAIN d ON d.UM_DOMAIN_ID = g.UM_DOMAIN_ID AND d.UM_TENANT_ID = p.UM_TENANT_ID"
                + " WHERE p.UM_TENANT_ID = ?", TENANT)) {
            String role = (grant[2].equals("INTERNAL") ? INTERNAL : "") + grant[1];
            if (roles.contains(role) && (resource + "/").startsWith(grant[0] + "/")) {
                return true;
            }
        }
        return false;
    }

    private Long roleId(String role) throws SQLException {
        String table = role.startsWith(INTERNAL) ? "UM_HYBRID_ROLE" : "UM_ROLE";
        List<Long> ids = sql.query(row -> row.getLong(1),
                "SELECT UM_ID FROM " + table + " WHERE UM_ROLE_NAME = ? AND UM_TENANT_ID = ?", bare(role), TENANT);
        return ids.isEmpty() ? null : ids.get(0);
    }

    private long domainOf(String role) throws SQLException {
        return domainId(role.startsWith(INTERNAL) ? "INTERNAL" : "PRIMARY");
    }

    private long domainId(String name) throws SQLException {
        return sql.query(row -> row.getLong(1), "SELECT UM_DOMAIN_ID FROM UM_DOMAIN WHERE UM_DOMAIN_NAME = ?"
                + " AND UM_TENANT_ID = ? ORDER BY UM_DOMAIN_ID", name, TENANT).get(0);
    }

    private static String bare(String role) {
        return role.startsWith(INTERNAL) ? role.substring(INTERNAL.length()) : role;
    }

    private static Timestamp now() {
        return Timestamp.from(Instant.now());
    }

    private static String salt() {
        byte[] bytes = new byte[16];
        new SecureRandom().nextBytes(bytes);
        return Base64.getEncoder().encodeToString(bytes);
    }

    /** Base64 of SHA-256 over password and salt, as JDBCUserStoreManager stores it. */
    public static String hash(String password, String salt) {
        try {
            byte[] bytes = (password + (salt == null ? "" : salt)).getBytes(StandardCharsets.UTF_8);
            return Base64.getEncoder().encodeToString(MessageDigest.getInstance("SHA-256").digest(bytes));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
