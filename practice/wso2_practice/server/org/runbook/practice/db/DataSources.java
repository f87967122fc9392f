package org.runbook.practice.db;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.tomcat.jdbc.pool.DataSource;
import org.apache.tomcat.jdbc.pool.PoolProperties;
import org.runbook.practice.BootFailure;
import org.runbook.practice.Log;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.conf.Xml;
import org.w3c.dom.Element;

/** The pools of repository/conf/datasources/*-datasources.xml, found by JNDI name or by name (facts 1.3). */
public final class DataSources {
    private final Map<String, DataSource> pools = new HashMap<>();

    public DataSources(Settings settings) {
        try (Stream<Path> files = Files.list(settings.conf("datasources"))) {
            List<Path> sorted = files.filter(f -> f.toString().endsWith("-datasources.xml")).sorted().collect(Collectors.toList());
            for (Path file : sorted) {
                Element root = settings.read("datasources/" + file.getFileName());
                for (Element source : Xml.all(root, "datasources/datasource")) {
                    DataSource pool = pool(settings, Xml.first(source, "definition/configuration"));
                    pools.put(Xml.text(source, "name", ""), pool);
                    pools.putIfAbsent(Xml.text(source, "jndiConfig/name", ""), pool);
                }
            }
        } catch (IOException e) {
            Log.fatal(Settings.CORE, "Cannot read the data sources", e);
            throw new BootFailure("data sources", e);
        }
    }

    private static DataSource pool(Settings settings, Element conf) {
        PoolProperties to = new PoolProperties();
        String url = Xml.text(conf, "url", "");
        to.setUrl(Embedded.is(url) ? Embedded.url(settings, url) : url);
        to.setUsername(Xml.text(conf, "username", ""));
        to.setPassword(Xml.text(conf, "password", ""));
        to.setDriverClassName(Embedded.is(url) ? Embedded.DRIVER : Xml.text(conf, "driverClassName", ""));
        to.setMaxActive(Integer.parseInt(Xml.text(conf, "maxActive", "50")));
        to.setMaxWait(Integer.parseInt(Xml.text(conf, "maxWait", "60000")));
        to.setTestOnBorrow(Boolean.parseBoolean(Xml.text(conf, "testOnBorrow", "false")));
        to.setValidationQuery(Embedded.is(url) ? Embedded.VALIDATION : Xml.text(conf, "validationQuery", null));
        to.setValidationInterval(Long.parseLong(Xml.text(conf, "validationInterval", "30000")));
        String autoCommit = Xml.text(conf, "defaultAutoCommit", "");
        to.setDefaultAutoCommit(!autoCommit.equals("false"));
        to.setInitialSize(0);
        to.setMinIdle(0);
        to.setMaxIdle(8);
        return new DataSource(to);
    }

    /** The pool of that name; an SQLException when no file defines it. */
    public javax.sql.DataSource get(String name) throws SQLException {
        DataSource pool = pools.get(name);
        if (pool == null) {
            throw new SQLException("Data source '" + name + "' is not defined in repository/conf/datasources");
        }
        return pool;
    }

    /** As shown in cache keys: user@URL. */
    public String identity(String name) throws SQLException {
        DataSource pool = (DataSource) get(name);
        return pool.getUsername() + "@" + pool.getUrl();
    }

    public void close() {
        pools.values().forEach(DataSource::close);
    }
}
