package org.runbook.practice.conf;

import java.io.IOException;
import java.io.Reader;
import java.net.InetAddress;
import java.net.NetworkInterface;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import org.runbook.practice.BootFailure;
import org.runbook.practice.Log;
import org.w3c.dom.Element;
import org.xml.sax.SAXException;

/** What repository/conf and the command line say about this server; read once at the start. */
public final class Settings {
    public static final String CORE = "org.wso2.carbon.core.internal.CarbonCoreActivator";

    /** A keystore of carbon.xml Security: where it lies, its password and the alias of its key. */
    static final class Store {
        private final Path location;
        private final String type;
        private final String password;
        private final String alias;
        private final String keyPassword;

        Store(Path location, String type, String password, String alias, String keyPassword) {
            this.location = location;
            this.type = type;
            this.password = password;
            this.alias = alias;
            this.keyPassword = keyPassword;
        }

        public Path location() {
            return location;
        }

        public String type() {
            return type;
        }

        public String password() {
            return password;
        }

        public String alias() {
            return alias;
        }

        public String keyPassword() {
            return keyPassword;
        }
    }

    public final Path home;
    public final Element carbon;
    public final Element catalina;
    public final Element registry;
    public final Element userManagement;
    public final Element axis2;
    public final boolean greg;
    public final String productName;
    public final String version;
    public final String hostName;
    public final String mgtHostName;
    public final int offset;
    public final boolean setup = System.getProperty("setup") != null;
    public final boolean worker = Boolean.getBoolean("workerNode");
    final Store keyStore;
    final Store trustStore;

    public Settings(Path home) {
        this.home = home;
        carbon = read("carbon.xml");
        catalina = read("tomcat/catalina-server.xml");
        registry = read("registry.xml");
        userManagement = read("user-mgt.xml");
        axis2 = read("axis2/axis2.xml");
        greg = Xml.text(carbon, "ServerKey", "").equalsIgnoreCase("Greg");
        productName = Xml.text(carbon, "Name", "WSO2 Carbon");
        String stated = Xml.text(carbon, "Version", "0");
        version = stated.endsWith("-practice") ? stated : stated + "-practice";
        hostName = Xml.text(carbon, "HostName", localHost());
        mgtHostName = Xml.text(carbon, "MgtHostName", hostName);
        offset = Integer.getInteger("portOffset", Integer.parseInt(Xml.text(carbon, "Ports/Offset", "0")));
        keyStore = store("Security/KeyStore");
        trustStore = store("Security/TrustStore");
    }

    /** The root of a file below repository/conf. A malformed file ends the boot as the real kernel's does. */
    public Element read(String name) {
        Path file = conf(name);
        try {
            return Xml.read(file).getDocumentElement();
        } catch (IOException | SAXException e) {
            Log.fatal(CORE, "Cannot start Carbon core bundle: " + file + " cannot be read", e);
            throw new BootFailure(name, e);
        }
    }

    /** The entries of a properties file below repository/conf; none where there is no such file. */
    public Properties properties(String name) {
        Properties loaded = new Properties();
        try (Reader in = Files.newBufferedReader(conf(name))) {
            loaded.load(in);
        } catch (IOException absent) {
            return loaded;
        }
        return loaded;
    }

    public Path conf(String name) {
        return home.resolve("repository/conf").resolve(name);
    }

    public boolean has(String name) {
        return Files.exists(conf(name));
    }

    public Path deployment(String name) {
        return home.resolve("repository/deployment/server").resolve(name);
    }

    public String resolve(String value) {
        return value.replace("${carbon.home}", home.toString());
    }

    /** The connector element of catalina-server.xml for a scheme, or null. */
    public Element connector(boolean tls) {
        List<Element> all = Xml.all(catalina, "Service/Connector");
        return all.stream().filter(c -> c.getAttribute("SSLEnabled").equals("true") == tls).findFirst().orElse(null);
    }

    public int port(boolean tls) {
        return Integer.parseInt(connector(tls).getAttribute("port")) + offset;
    }

    /** The port that the outside sees: proxyPort where the connector has one. */
    public int publicPort(boolean tls) {
        String proxied = connector(tls).getAttribute("proxyPort");
        return proxied.isEmpty() ? port(tls) : Integer.parseInt(proxied);
    }

    /** What %https.host% in the applications' JSON stands for (facts 1.11). */
    public String httpsHost() {
        int port = publicPort(true);
        return "https://" + hostName + (port == 443 ? "" : ":" + port);
    }

    public int deploymentInterval() {
        return Integer.parseInt(Xml.text(carbon, "Axis2Config/DeploymentUpdateInterval", "15"));
    }

    public int cacheMinutes() {
        return Integer.parseInt(Xml.text(carbon, "Cache/DefaultCacheTimeout", "15"));
    }

    private Store store(String path) {
        Element element = Xml.first(carbon, path);
        return new Store(Paths.get(resolve(Xml.text(element, "Location", ""))), Xml.text(element, "Type", "JKS"),
                Xml.text(element, "Password", ""), Xml.text(element, "KeyAlias", ""),
                Xml.text(element, "KeyPassword", ""));
    }

    /** As the kernel's NetworkUtils: -Dcarbon.local.ip, else the first address that is not loopback, else localhost. */
    public static String localHost() {
        String given = System.getProperty("carbon.local.ip");
        if (given != null) {
            return given.startsWith("127.") ? "localhost" : given;
        }
        try {
            return Collections.list(NetworkInterface.getNetworkInterfaces()).stream()
                    .flatMap(card -> Collections.list(card.getInetAddresses()).stream())
                    .filter(a -> !a.isLoopbackAddress() && a.getAddress().length == 4)
                    .map(InetAddress::getHostAddress).findFirst().orElse("localhost");
        } catch (IOException e) {
            return "localhost";
        }
    }
}
