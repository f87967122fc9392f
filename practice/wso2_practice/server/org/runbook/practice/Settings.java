package org.runbook.practice;

import java.io.IOException;
import java.net.InetAddress;
import java.net.NetworkInterface;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import org.w3c.dom.Element;
import org.xml.sax.SAXException;

/** What repository/conf and the command line say about this server; read once at the start. */
final class Settings {
    static final String CORE = "org.wso2.carbon.core.internal.CarbonCoreActivator";

    /** A keystore of carbon.xml Security: where it lies, its password and the alias of its key. */
    record Store(Path location, String type, String password, String alias, String keyPassword) {
    }

    final Path home;
    final Element carbon;
    final Element catalina;
    final Element registry;
    final Element userManagement;
    final Element axis2;
    final boolean greg;
    final String productName;
    final String version;
    final String hostName;
    final String mgtHostName;
    final int offset;
    final boolean setup = System.getProperty("setup") != null;
    final boolean worker = Boolean.getBoolean("workerNode");
    final Store keyStore;
    final Store trustStore;

    Settings(Path home) {
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
    Element read(String name) {
        Path file = conf(name);
        try {
            return Xml.read(file).getDocumentElement();
        } catch (IOException | SAXException e) {
            Log.fatal(CORE, "Cannot start Carbon core bundle: " + file + " cannot be read", e);
            throw new BootFailure(name, e);
        }
    }

    Path conf(String name) {
        return home.resolve("repository/conf").resolve(name);
    }

    boolean has(String name) {
        return Files.exists(conf(name));
    }

    Path deployment(String name) {
        return home.resolve("repository/deployment/server").resolve(name);
    }

    String resolve(String value) {
        return value.replace("${carbon.home}", home.toString());
    }

    /** The connector element of catalina-server.xml for a scheme, or null. */
    Element connector(boolean tls) {
        List<Element> all = Xml.all(catalina, "Service/Connector");
        return all.stream().filter(c -> c.getAttribute("SSLEnabled").equals("true") == tls).findFirst().orElse(null);
    }

    int port(boolean tls) {
        return Integer.parseInt(connector(tls).getAttribute("port")) + offset;
    }

    /** The port that the outside sees: proxyPort where the connector has one. */
    int publicPort(boolean tls) {
        String proxied = connector(tls).getAttribute("proxyPort");
        return proxied.isEmpty() ? port(tls) : Integer.parseInt(proxied);
    }

    /** What %https.host% in the applications' JSON stands for (facts 1.11). */
    String httpsHost() {
        int port = publicPort(true);
        return "https://" + hostName + (port == 443 ? "" : ":" + port);
    }

    int deploymentInterval() {
        return Integer.parseInt(Xml.text(carbon, "Axis2Config/DeploymentUpdateInterval", "15"));
    }

    int cacheMinutes() {
        return Integer.parseInt(Xml.text(carbon, "Cache/DefaultCacheTimeout", "15"));
    }

    private Store store(String path) {
        Element element = Xml.first(carbon, path);
        return new Store(Path.of(resolve(Xml.text(element, "Location", ""))), Xml.text(element, "Type", "JKS"),
                Xml.text(element, "Password", ""), Xml.text(element, "KeyAlias", ""),
                Xml.text(element, "KeyPassword", ""));
    }

    /** As the kernel's NetworkUtils: -Dcarbon.local.ip, else the first address that is not loopback, else localhost. */
    static String localHost() {
        String given = System.getProperty("carbon.local.ip");
        if (given != null) {
            return given.startsWith("127.") ? "localhost" : given;
        }
        try {
            return Collections.list(NetworkInterface.getNetworkInterfaces()).stream()
                    .flatMap(NetworkInterface::inetAddresses)
                    .filter(a -> !a.isLoopbackAddress() && a.getAddress().length == 4)
                    .map(InetAddress::getHostAddress).findFirst().orElse("localhost");
        } catch (IOException e) {
            return "localhost";
        }
    }
}
