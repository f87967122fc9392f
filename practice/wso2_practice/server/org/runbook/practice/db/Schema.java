package org.runbook.practice.db;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Locale;
import org.runbook.practice.Log;
import org.runbook.practice.conf.Settings;

/** -Dsetup: makes the tables from dbscripts/<type>.sql where a probe query fails (facts 2.4). */
public final class Schema {
    private static final String SOURCE = "org.wso2.carbon.utils.dbcreator.DatabaseCreator";
    private final Path scripts;

    public Schema(Settings settings) {
        scripts = settings.home.resolve("dbscripts");
    }

    /** Runs a script (its path has %s for the dialect) unless the table of the probe is there already. */
    public void create(Sql sql, String probe, String name) throws SQLException {
        try {
            sql.query(row -> 1, probe);
            Log.info(SOURCE, "Database already exists. Not creating a new database.");
            return;
        } catch (SQLException absent) {
            // the tables are to be made; a server that cannot be reached fails again below
        }
        try (Connection connection = sql.connect()) {
            String dialect = type(connection);
            Path script = scripts.resolve(String.format(name, dialect));
            try (Statement statement = connection.createStatement()) {
                for (String command : commands(new String(Files.readAllBytes(script), StandardCharsets.UTF_8))) {
                    statement.execute(dialect.equals("h2") ? Embedded.statement(command) : command);
                }
            }
            if (!connection.getAutoCommit()) {
                connection.commit();
            }
            Log.info(SOURCE, "Successfully created tables for database from " + script.getFileName());
        } catch (IOException e) {
            throw new SQLException("The database script cannot be read: " + e.getMessage(), e);
        }
    }

    /** The dialect by the product name that the driver reports; "MariaDB" is not among those it knows (golden-run 1). */
    public static String type(Connection connection) throws SQLException {
        String product = connection.getMetaData().getDatabaseProductName();
        String name = product.toLowerCase(Locale.ROOT);
        if (name.equals(Embedded.PRODUCT)) {
            return "h2";
        }
        for (String known : new String[] {"mysql", "h2", "oracle", "postgresql", "db2", "derby", "informix"}) {
            if (name.contains(known)) {
                return known;
            }
        }
        if (name.contains("microsoft")) {
            return "mssql";
        }
        throw new SQLException("Unsupported database", new Exception("Unsupported database: " + product
                + ". Database will not be created automatically by the WSO2 Registry."
                + " Please create the database using appropriate database scripts for the database."));
    }

    /** The statements of a script: split at semicolons that end a line, comment lines left out. */
    private static String[] commands(String script) {
        StringBuilder kept = new StringBuilder();
        for (String line : script.split("\\R")) {
            if (!line.trim().startsWith("--") && !line.trim().isEmpty()) {
                kept.append(line).append('\n');
            }
        }
        return kept.toString().trim().split(";\\s*\\n|;\\s*$");
    }
}
